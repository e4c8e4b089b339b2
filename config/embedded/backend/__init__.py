"""Django's PostgreSQL engine on the server that the installation starts itself."""
