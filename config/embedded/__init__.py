"""What a checkout brings along so that it runs alone: the database server, the message folder, the supervisor."""
