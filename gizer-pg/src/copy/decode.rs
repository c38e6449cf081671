//! For tests: reads what the encoder writes as PostgreSQL's documentation and its `*_recv` functions describe it.
//! Shares nothing with the encoder.

/// A tuple's fields as they stand on the wire; `None` for NULL.
pub(super) type Tuple = Vec<Option<Vec<u8>>>;

/// Takes bytes from the front.
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, n: usize) -> &'b [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    /// A value with its length before it.
    fn field(&mut self) -> Option<Vec<u8>> {
        match self.i32() {
            -1 => None,
            length => Some(self.take(usize::try_from(length).unwrap()).to_vec()),
        }
    }

    fn end(&self) {
        assert!(self.0.is_empty(), "nothing follows");
    }
}

/// The tuples of one binary COPY.
pub(super) fn tuples(bytes: &[u8]) -> Vec<Tuple> {
    let mut reader = Reader(bytes);
    assert_eq!(reader.take(11), b"PGCOPY\n\xff\r\n\0", "signature");
    assert_eq!(reader.take(4), [0; 4], "flags");
    assert_eq!(reader.take(4), [0; 4], "header extension");
    let mut tuples = Vec::new();
    loop {
        let fields = reader.i16();
        if fields == -1 {
            reader.end();
            return tuples;
        }
        tuples.push((0..fields).map(|_| reader.field()).collect());
    }
}

/// A `numeric` as the server would show it.
pub(super) fn numeric(bytes: &[u8]) -> String {
    let mut reader = Reader(bytes);
    let count = usize::try_from(reader.i16()).unwrap();
    let (weight, sign, scale) = (reader.i16(), reader.i16() as u16, usize::try_from(reader.i16()).unwrap());
    let groups: Vec<i16> = (0..count).map(|_| reader.i16()).collect();
    reader.end();
    assert!(groups.iter().all(|group| (0..10_000).contains(group)), "{groups:?}");
    assert!(scale <= 16_383, "NUMERIC_DSCALE_MASK");
    if sign == 0xC000 {
        assert_eq!((count, weight, scale), (0, 0, 0));
        return "NaN".to_owned();
    }
    assert!(groups.first() != Some(&0) && groups.last() != Some(&0), "no more groups than it takes: {groups:?}");
    let group = |weight_of_group: i32| -> i16 {
        let at = i32::from(weight) - weight_of_group;
        usize::try_from(at).ok().and_then(|at| groups.get(at).copied()).unwrap_or(0)
    };
    let whole: String = (0..=i32::from(weight).max(0)).rev().map(|weight| format!("{:04}", group(weight))).collect();
    let lowest = i32::from(weight) - groups.len() as i32 + 1;
    let shown = (scale as i32).div_euclid(4) + 1;
    let fraction: String = (1..=shown.max(-lowest)).map(|place| format!("{:04}", group(-place))).collect();
    assert!(fraction[scale..].bytes().all(|digit| digit == b'0'), "digits beyond the scale would be cut off");
    let whole = whole.trim_start_matches('0');
    let minus = match sign {
        0 => "",
        0x4000 => "-",
        sign => panic!("sign {sign:x}"),
    };
    let point = if scale == 0 { "" } else { "." };
    format!("{minus}{}{point}{}", if whole.is_empty() { "0" } else { whole }, &fraction[..scale])
}

/// An array: the elements' type and the elements.
pub(super) fn array(bytes: &[u8]) -> (i32, Tuple) {
    let mut reader = Reader(bytes);
    let (dimensions, has_null, ty) = (reader.i32(), reader.i32(), reader.i32());
    if dimensions == 0 {
        assert_eq!(has_null, 0);
        reader.end();
        return (ty, Tuple::new());
    }
    let (length, lower_bound) = (reader.i32(), reader.i32());
    assert_eq!((dimensions, lower_bound), (1, 1));
    let elements: Tuple = (0..length).map(|_| reader.field()).collect();
    reader.end();
    assert_eq!(has_null, i32::from(elements.contains(&None)));
    (ty, elements)
}
