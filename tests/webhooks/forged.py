"""A hundred and more ways in which a client may lie about where it calls from. Each is a list of headers, some of them twice."""

from itertools import product

# Where the liar says that it is: an address that is let in.
ALLOWED = "34.82.1.1"

NAMES = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP", "X-Cluster-Client-IP", "True-Client-IP", "CF-Connecting-IP")
# What stands in a header that names one address; {} is the allowed one.
PLAIN = (
    "{}",
    " {} ",
    "\t{}",
    "{}:443",
    "[{}]",
    "[::ffff:{}]",
    "::ffff:{}",
    "::{}",
    "::ffff:{}%eth0",
    "{}%lo",
    '"{}"',
    "{}/32",
    "for={}",
    'for="{}:1";proto=https;by=127.0.0.1',
    "034.082.001.001",
    "0x22.0x52.0x1.0x1",
    "575799553",
    "٣٤.٨٢.١.١",
    "３４.８２.１.１",
    "34。82。1。1",
    "unknown",
    "_hidden",
    "-",
    "''",
    "null",
    "localhost",
    "{}\u200b",
    "{}\x0b",
)
# Where the allowed address stands among others, in what is a list of hops.
LISTS = (
    "{}, 203.0.113.99",
    "203.0.113.99, {}",
    "{},{}",
    "127.0.0.1, {}",
    "{}, 127.0.0.1",
    "10.0.0.1, {}, 10.0.0.2",
    "192.168.0.1, {}",
    "{}, 192.168.0.1, 172.16.0.1",
    "169.254.169.254, {}",
    "::1, {}",
    "fe80::1%eth0, {}",
    "fd00::1, {}, fd00::2",
    ",{}",
    "{},",
    ",,{},,",
    " , {} , ",
    "unknown, {}",
    "{}, unknown",
    "{}; 203.0.113.99",
    "{} 203.0.113.99",
    "203.0.113.99 {}",
    "{}|203.0.113.99",
    "for={}, for=203.0.113.99",
    "203.0.113.99, for={}",
    "[2001:db8::1]:443, {}",
    "{}, [2001:db8::1]:443",
    "0.0.0.0, {}",
    "255.255.255.255, {}",
    "224.0.0.1, {}",
    "999.999.999.999, {}",
    "34.82.1, {}",
    "{}%00, 203.0.113.99",
    "%33%34.82.1.1, 203.0.113.99",
    "{}%0d%0aX-Real-IP: {}",
    "{}\\r\\nX-Real-IP: {}",
)
LONG = (
    ", ".join(["{}"] * 100),
    ", ".join([f"10.0.{number}.1" for number in range(200)]) + ", {}",
    "{}, " + ", ".join([f"198.51.100.{number}" for number in range(200)]),
    "{}" + "," * 2000,
    "," * 2000 + "{}",
    "9" * 3000 + ", {}",
    "{}, " + "x" * 3000,
)
TWICE = (
    (("X-Forwarded-For", "{}"), ("X-Forwarded-For", "203.0.113.99")),
    (("X-Forwarded-For", "203.0.113.99"), ("X-Forwarded-For", "{}")),
    (("X-Forwarded-For", ""), ("X-Forwarded-For", "{}")),
    (("x-forwarded-for", "{}"), ("X-FORWARDED-FOR", "{}")),
    (("X-Real-IP", "{}"), ("X-Real-IP", "{}")),
    (("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "{}")),
    (("X-Forwarded-For", "{}"), ("X-Real-IP", "127.0.0.1")),
    (("Forwarded", "for={}"), ("X-Forwarded-For", "{}"), ("X-Real-IP", "{}")),
    (("X_Forwarded_For", "{}"),),
    (("X_Real_IP", "{}"),),
    (("X-Forwarded_For", "{}"), ("X-Forwarded-For", "203.0.113.99")),
    (("X-Forwarded-For", "{}"), ("Connection", "close, X-Forwarded-For")),
    (("X-Forwarded-Host", "{}"), ("X-Forwarded-By", "{}"), ("Via", "1.1 {}")),
)


def samples(allowed: str = ALLOWED) -> list[tuple[tuple[str, str], ...]]:
    """All of them, about this address."""
    one = [((name, value),) for name, value in product(NAMES[:2], PLAIN)] + [((name, "{}"),) for name in NAMES]
    many = [(("X-Forwarded-For", value),) for value in (*LISTS, *LONG)]
    return [tuple((name, value.replace("{}", allowed)) for name, value in sample) for sample in (*one, *many, *TWICE)]
