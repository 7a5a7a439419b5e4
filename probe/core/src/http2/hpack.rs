//! HPACK (RFC 7541): header blocks to fields, and a request's fields to a block.
//!
//! A decoder holds at most the table that it has announced, and hands out one field
//! at a time: whoever takes them bounds what they come to, so that a small block
//! that stands for much (a "bomb") ends where the limit is. What is encoded touches
//! no table, and values that may be secrets are never to be indexed by anybody.

use std::collections::VecDeque;

use watchfire_wire::Reason;

use super::huffman;
use super::static_table::FIELDS;

/// What a field costs in a table, and counts in a list, beyond its bytes.
pub(super) const FIELD_OVERHEAD: usize = 32;

/// Reads header blocks of one connection.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Newest first.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    /// What the other side makes of it.
    most: usize,
    /// What it may make of it.
    limit: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// A decoder whose table was announced to hold at most `limit` bytes.
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            most: limit,
            limit,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Reads a whole block, field by field, in order.
    ///
    /// # Errors
    ///
    /// It cannot be read, or `field` refuses one.
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        mut field: impl FnMut(&[u8], &[u8]) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let mut rest = block;
        let mut any = false;
        while let Some(&first) = rest.first() {
            self.step(first, &mut rest, any, &mut field)?;
            any |= first >> 5 != 1;
        }
        Ok(())
    }

    fn step(
        &mut self,
        first: u8,
        rest: &mut &[u8],
        any: bool,
        field: &mut impl FnMut(&[u8], &[u8]) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        const LIES: Reason = Reason::Http2Compression;
        match first {
            // An indexed field.
            0x80.. => {
                let (name, value) = self.field(integer(rest, 7)?)?;
                field(name, value)
            }
            // A change of the table's size, which stands before all fields.
            0x20..0x40 => {
                let most = integer(rest, 5)?;
                if any || most > self.limit {
                    return Err(LIES);
                }
                self.most = most;
                self.evict(0);
                Ok(())
            }
            // A literal; with these two bits it is to be remembered.
            _ => {
                let remember = first & 0xc0 == 0x40;
                let index = integer(rest, if remember { 6 } else { 4 })?;
                let (mut name, mut value) = (
                    core::mem::take(&mut self.name),
                    core::mem::take(&mut self.value),
                );
                name.clear();
                value.clear();
                if index == 0 {
                    string(rest, &mut name)?;
                } else {
                    name.extend_from_slice(self.field(index)?.0);
                }
                string(rest, &mut value)?;
                field(&name, &value)?;
                if remember {
                    self.remember(&name, &value);
                }
                (self.name, self.value) = (name, value);
                Ok(())
            }
        }
    }

    fn field(&self, index: usize) -> Result<(&[u8], &[u8]), Reason> {
        let known = index.checked_sub(1).ok_or(Reason::Http2Compression)?;
        if let Some((name, value)) = FIELDS.get(known) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        match self.table.get(known - FIELDS.len()) {
            Some((name, value)) => Ok((name, value)),
            None => Err(Reason::Http2Compression),
        }
    }

    fn remember(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        self.evict(size);
        if size <= self.most {
            self.table.push_front((name.to_vec(), value.to_vec()));
            self.size += size;
        }
    }

    /// Evicts entries until so many bytes fit, or all of them (RFC 7541, section 4.4).
    fn evict(&mut self, bytes: usize) {
        while self.size + bytes > self.most {
            let Some((name, value)) = self.table.pop_back() else {
                break;
            };
            self.size -= name.len() + value.len() + FIELD_OVERHEAD;
        }
    }
}

/// Bytes that may follow an integer's first: it stays far below any overflow, and far
/// above any limit.
const INTEGER_BYTES: u32 = 4;

/// An integer whose first byte has so many bits of it.
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, Reason> {
    let mut next = || {
        let (&byte, after) = rest.split_first().ok_or(Reason::Http2Compression)?;
        *rest = after;
        Ok(usize::from(byte))
    };
    let full = (1 << bits) - 1;
    let mut value = next()? & full;
    if value < full {
        return Ok(value);
    }
    for place in 0..INTEGER_BYTES {
        let byte = next()?;
        value += (byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Reason::Http2Compression)
}

fn string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (bytes, after) = rest
        .split_at_checked(length)
        .ok_or(Reason::Http2Compression)?;
    *rest = after;
    if coded {
        huffman::decode(bytes, out).ok_or(Reason::Http2Compression)
    } else {
        out.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends a field to a block: by its number alone if that is known from the start.
/// Whoever passes it on is not to index its value if it may be a secret.
pub(super) fn encode(name: &str, value: &str, secret: bool, block: &mut Vec<u8>) {
    let whole = FIELDS.iter().position(|known| *known == (name, value));
    if let Some(index) = whole {
        return put_integer(0x80, 7, index + 1, block);
    }
    let first = if secret { 0x10 } else { 0 };
    let known = FIELDS.iter().position(|(known, _)| *known == name);
    put_integer(first, 4, known.map_or(0, |index| index + 1), block);
    if known.is_none() {
        put_string(name, block);
    }
    put_string(value, block);
}

fn put_string(text: &str, block: &mut Vec<u8>) {
    put_integer(0, 7, text.len(), block);
    block.extend_from_slice(text.as_bytes());
}

fn put_integer(first: u8, bits: u32, value: usize, block: &mut Vec<u8>) {
    let full = (1 << bits) - 1;
    if value < full {
        block.push(first | value as u8);
        return;
    }
    block.push(first | full as u8);
    let mut left = value - full;
    while left >= 0x80 {
        block.push(0x80 | (left & 0x7f) as u8);
        left >>= 7;
    }
    block.push(left as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        let pairs = digits.chunks(2);
        pairs.map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Reason> {
        let mut fields = Vec::new();
        decoder.decode(block, |name, value| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            fields.push(format!("{}={}", text(name), text(value)));
            Ok(())
        })?;
        Ok(fields)
    }

    /// Reads the blocks of an example of RFC 7541, appendix C, one after the other,
    /// each with what it holds and the table's size after it.
    fn example(limit: usize, blocks: &[(&str, &[&str], usize)]) {
        let mut decoder = Decoder::new(limit);
        for (hex, wanted, size) in blocks {
            let found = fields(&mut decoder, &bytes(hex)).unwrap();
            assert_eq!(&found, wanted);
            assert_eq!(decoder.size, *size);
        }
    }

    #[test]
    fn integers_of_c1() {
        assert_eq!(integer(&mut &b"\x0a"[..], 5), Ok(10));
        assert_eq!(integer(&mut &b"\x1f\x9a\x0a"[..], 5), Ok(1_337));
        assert_eq!(integer(&mut &b"\x2a"[..], 8), Ok(42));
        let mut out = Vec::new();
        put_integer(0, 5, 1_337, &mut out);
        assert_eq!(out, b"\x1f\x9a\x0a");
        for lies in [&b""[..], b"\x1f", b"\x1f\xff\xff\xff\xff\x01"] {
            assert_eq!(integer(&mut &lies[..], 5), Err(Reason::Http2Compression));
        }
    }

    #[test]
    fn fields_of_c2() {
        let literal = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
        example(4_096, &[(literal, &["custom-key=custom-header"], 55)]);
        example(
            4_096,
            &[(
                "040c 2f73 616d 706c 652f 7061 7468",
                &[":path=/sample/path"],
                0,
            )],
        );
        let never = "1008 7061 7373 776f 7264 0673 6563 7265 74";
        example(4_096, &[(never, &["password=secret"], 0)]);
        example(4_096, &[("82", &[":method=GET"], 0)]);
    }

    #[test]
    fn requests_of_c3_and_c4() {
        let first: &[&str] = &[
            ":method=GET",
            ":scheme=http",
            ":path=/",
            ":authority=www.example.com",
        ];
        let second = &[first, &["cache-control=no-cache"]].concat();
        let third: &[&str] = &[
            ":method=GET",
            ":scheme=https",
            ":path=/index.html",
            ":authority=www.example.com",
            "custom-key=custom-value",
        ];
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for [one, two, three] in [plain, coded] {
            example(
                4_096,
                &[(one, first, 57), (two, second, 110), (three, third, 164)],
            );
        }
    }

    #[test]
    fn responses_of_c5_and_c6_evict() {
        let date = "date=Mon, 21 Oct 2013 20:13:21 GMT";
        let location = "location=https://www.example.com";
        let first = [":status=302", "cache-control=private", date, location];
        let second = [":status=307", "cache-control=private", date, location];
        let third = [
            ":status=200",
            "cache-control=private",
            "date=Mon, 21 Oct 2013 20:13:22 GMT",
            location,
            "content-encoding=gzip",
            "set-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ];
        let plain = [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 \
             2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 \
             6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d \
             54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 \
             5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
        ];
        let coded = [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
             2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab \
             77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f \
             9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ];
        for [one, two, three] in [plain, coded] {
            example(
                256,
                &[
                    (one, &first, 222),
                    (two, &second, 222),
                    (three, &third, 215),
                ],
            );
        }
    }

    #[test]
    fn tables_that_lie_are_refused() {
        let lies = Err(Reason::Http2Compression);
        let mut small = Decoder::new(0);
        // A table that was announced to hold nothing holds nothing.
        assert!(fields(&mut small, b"\x20\x40\x01a\x01b").is_ok());
        for block in [
            // No field has this number: none at all, the first beyond, far beyond.
            &b"\x80"[..],
            b"\xbe",
            b"\xff\xff\xff\x7f",
            // Larger than announced; in the middle of fields.
            b"\x21",
            b"\x82\x20",
            // Strings that are longer than the block, and that end in no byte's end.
            b"\x40\x7fa",
            b"\x40\x01a\x7f\xff\xff\xff\x7f",
            b"\x00\x81\xff\x00",
            b"\x00\x84\xff\xff\xff\xff\x00",
            b"\x00",
            b"\x40\x01a",
        ] {
            assert_eq!(fields(&mut small, block), lies, "{block:?}");
        }
    }

    #[test]
    fn what_takes_the_fields_ends_a_bomb() {
        // One large field, then its number again and again.
        let mut block = b"\x40\x01a\x7f\x81\x1e".to_vec();
        block.extend(core::iter::repeat_n(b'x', 4_000));
        block.extend(core::iter::repeat_n(0xbe, 100_000));
        let mut left = 16_384_usize;
        let result = Decoder::new(4_096).decode(&block, |_, value| {
            left = left
                .checked_sub(value.len())
                .ok_or(Reason::HeadersTooLarge)?;
            Ok(())
        });
        assert_eq!(result, Err(Reason::HeadersTooLarge));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut block = Vec::new();
        let long = "x".repeat(300);
        let given = [
            (":method", "GET"),
            (":path", "/health"),
            ("x-key", &long),
            (":method", "PUT"),
        ];
        for (name, value) in given {
            encode(name, value, name == "x-key", &mut block);
        }
        let wanted: Vec<String> = given.map(|(name, value)| format!("{name}={value}")).into();
        assert_eq!(fields(&mut Decoder::new(0), &block), Ok(wanted));
    }

    proptest! {
        #[test]
        fn junk_ends_and_the_table_keeps_its_bound(
            blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..8),
            limit in 0_usize..300,
        ) {
            let mut decoder = Decoder::new(limit);
            for block in blocks {
                let _ = fields(&mut decoder, &block);
                prop_assert!(decoder.size <= limit);
                let sum: usize = decoder.table.iter().map(|(n, v)| n.len() + v.len() + 32).sum();
                prop_assert_eq!(sum, decoder.size);
            }
        }
    }
}
