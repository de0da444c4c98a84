"""Random damage to the bytes of a file, as a bad copy or a clever stranger would do it."""

import random


def damaged(good: bytes, choose: random.Random, header: int = 0) -> bytes:
    """Flip bits, put letters of JSON in, cut out or repeat, at one to eight places: mostly in the header, with one."""
    data = bytearray(good)
    for _ in range(choose.choice([1, 1, 2, 8])):
        at = choose.randrange(header if choose.random() < 0.8 * bool(header) else len(good)) % len(data)
        match choose.randrange(4):
            case 0:
                data[at] ^= 1 << choose.randrange(8)
            case 1:
                data[at] = choose.choice(b'0123456789{}[],:"-.eE \0\xff')
            case 2:
                del data[at : at + choose.randint(1, 16)]
            case 3:
                data[at:at] = data[at : at + choose.randint(1, 16)]
    return bytes(data)
