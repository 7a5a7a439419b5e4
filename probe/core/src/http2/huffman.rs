//! The Huffman code of HPACK (RFC 7541, appendix B). The code is canonical: the
//! lengths of its codes say it all.

/// The bits of each byte's code, and, last, of the end of a string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The end of a string, which never stands in one.
const END: u16 = 256;

/// The longest code, bits.
const LONGEST: usize = 30;

/// The codes by their length: the first of each, how many there are, and where
/// their symbols begin.
struct Codes {
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    begin: [usize; LONGEST + 1],
    symbols: [u16; 257],
}

static CODES: Codes = codes();

const fn codes() -> Codes {
    let mut codes = Codes {
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        begin: [0; LONGEST + 1],
        symbols: [0; 257],
    };
    let (mut length, mut code, mut at) = (1, 0, 0);
    while length <= LONGEST {
        code <<= 1;
        codes.first[length] = code;
        codes.begin[length] = at;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                codes.symbols[at] = symbol as u16;
                codes.count[length] += 1;
                code += 1;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    codes
}

/// Decodes a string to the end of `out`; nothing if it is none: the end of a string
/// stands in it, or what fills its last byte is not the beginning of that.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut code, mut length) = (0_u32, 0);
    for &byte in bytes {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            length += 1;
            let above = code - CODES.first[length];
            if above < CODES.count[length] {
                match CODES.symbols[CODES.begin[length] + above as usize] {
                    END => return None,
                    symbol => out.push(symbol as u8),
                }
                (code, length) = (0, 0);
            }
        }
    }
    (length < 8 && code == (1 << length) - 1).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    #[test]
    fn the_codes_are_those_of_the_appendix() {
        assert_eq!(CODES.first[5], 0);
        assert_eq!(CODES.symbols[0], u16::from(b'0'));
        // The last code of all is the string's end: thirty ones.
        assert_eq!(CODES.first[30] + CODES.count[30] - 1, 0x3fff_ffff);
        assert_eq!(CODES.symbols[256], END);
        let url = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(decoded(url).as_deref(), Some(&b"www.example.com"[..]));
    }

    #[test]
    fn padding_that_lies_is_no_string() {
        // "0" is 00000: three ones fill its byte.
        assert_eq!(decoded(b"\x07").as_deref(), Some(&b"0"[..]));
        for bytes in [
            &b"\x00"[..],
            b"\x06",
            b"\x07\xff",
            b"\xff",
            b"\xff\xff\xff\xff",
        ] {
            assert_eq!(decoded(bytes), None, "{bytes:?}");
        }
        // Two whole codes and six bits of zeros.
        assert_eq!(decoded(b"\x00\x00"), None);
        assert_eq!(decoded(b""), Some(Vec::new()));
    }

    #[test]
    fn whatever_comes_is_read_to_its_end_or_refused() {
        for seed in 0..=u8::MAX {
            let bytes: Vec<u8> = (0..64_u8).map(|at| at.wrapping_mul(seed) ^ seed).collect();
            if let Some(text) = decoded(&bytes) {
                assert!(text.len() <= bytes.len() * 8 / 5);
            }
        }
    }
}
