//! Server-sent events out of pieces of any size.

/// Longest event that is read. The last event of a Responses stream repeats the whole answer.
const MAX_EVENT: usize = 8 << 20;

/// Finds the data of events. Lines may end in LF, CRLF or CR, and pieces anywhere.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    oversized: bool,
}

impl Events {
    /// Takes a piece; `found` gets the data of each event that ends in it. An event that was too long is none.
    pub(super) fn push(&mut self, mut piece: &[u8], found: &mut impl FnMut(Option<&[u8]>)) {
        while !piece.is_empty() {
            if std::mem::take(&mut self.after_cr) && piece[0] == b'\n' {
                piece = &piece[1..];
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', piece) else {
                self.extend(piece);
                return;
            };
            self.extend(&piece[..end]);
            self.after_cr = piece[end] == b'\r';
            self.end_line(found);
            piece = &piece[end + 1..];
        }
    }

    /// The end of the stream: some servers leave out the last line end.
    pub(super) fn finish(&mut self, found: &mut impl FnMut(Option<&[u8]>)) {
        if !self.line.is_empty() {
            self.end_line(found);
        }
        self.dispatch(found);
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.line.len() + self.data.len() + bytes.len() > MAX_EVENT {
            self.oversized = true;
        }
        if !self.oversized {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self, found: &mut impl FnMut(Option<&[u8]>)) {
        if self.line.is_empty() && !self.oversized {
            return self.dispatch(found);
        }
        if let Some(value) = self.line.strip_prefix(b"data:") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data
                .extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            self.has_data = true;
        }
        self.line.clear();
        if std::mem::take(&mut self.oversized) {
            self.data.clear();
            self.has_data = false;
            found(None);
        }
    }

    fn dispatch(&mut self, found: &mut impl FnMut(Option<&[u8]>)) {
        if self.has_data {
            found(Some(&self.data));
        }
        self.data.clear();
        self.has_data = false;
    }
}
