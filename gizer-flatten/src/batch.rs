//! Batches of documents in one buffer.

use bytes::Bytes;
use gizer_schema::raw::{Kind, Malformed, RawDoc};

/// A buffer with whole BSON documents, such as a server reply, and their offsets.
#[derive(Debug, Clone)]
pub struct DocumentBatch {
    buffer: Bytes,
    starts: Vec<u32>,
    document_bytes: usize,
}

impl DocumentBatch {
    /// The elements of a BSON array at `array_at`, as in MongoDB's `firstBatch` and `nextBatch`.
    ///
    /// # Errors
    /// [`Malformed`] if there is no array there, or one of its elements is no document.
    pub fn from_array(buffer: Bytes, array_at: usize) -> Result<DocumentBatch, Malformed> {
        let array = RawDoc::first_in(buffer.get(array_at..).unwrap_or_default())?;
        let base = array.as_bytes().as_ptr() as usize - array_at;
        let mut starts = Vec::new();
        let mut document_bytes = 0;
        for element in array.elements() {
            let element = element?;
            let at = element.bytes.as_ptr() as usize - base;
            if element.kind != Kind::Document {
                return Err(Malformed { what: "an array of documents", at });
            }
            starts.push(offset(at)?);
            document_bytes += element.bytes.len();
        }
        Ok(DocumentBatch { buffer, starts, document_bytes })
    }

    /// Concatenated documents: the form of mongodump's `.bson` files.
    ///
    /// # Errors
    /// [`Malformed`] if the documents do not fill the buffer exactly.
    pub fn from_sequence(buffer: Bytes) -> Result<DocumentBatch, Malformed> {
        let mut starts = Vec::new();
        let mut at = 0;
        while at < buffer.len() {
            let document = RawDoc::first_in(&buffer[at..]).map_err(|e| Malformed { at: at + e.at, ..e })?;
            starts.push(offset(at)?);
            at += document.as_bytes().len();
        }
        let document_bytes = buffer.len();
        Ok(DocumentBatch { buffer, starts, document_bytes })
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes of BSON, without other parts of the buffer.
    pub fn document_bytes(&self) -> usize {
        self.document_bytes
    }

    /// Memory of the batch in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.buffer.len() + self.starts.len() * size_of::<u32>()
    }

    /// The first `count` documents, and the others. Both keep the buffer.
    #[must_use]
    pub fn split_at(&self, count: usize) -> (DocumentBatch, DocumentBatch) {
        let count = count.min(self.starts.len());
        let of = |starts: &[u32]| {
            let mut part = DocumentBatch { buffer: self.buffer.clone(), starts: starts.to_vec(), document_bytes: 0 };
            part.document_bytes = part.documents().map(|document| document.as_bytes().len()).sum();
            part
        };
        (of(&self.starts[..count]), of(&self.starts[count..]))
    }

    /// A document by index; `None` past the end. It keeps the whole buffer alive.
    pub fn share(&self, number: usize) -> Option<Bytes> {
        let rest = self.buffer.slice(*self.starts.get(number)? as usize..);
        let length = RawDoc::first_in(&rest).ok()?.as_bytes().len();
        Some(rest.slice(..length))
    }

    /// The documents in their order.
    pub fn documents(&self) -> Documents<'_> {
        Documents { buffer: &self.buffer, starts: self.starts.iter() }
    }
}

fn offset(at: usize) -> Result<u32, Malformed> {
    u32::try_from(at).map_err(|_| Malformed { what: "a batch of less than 4 GiB", at })
}

/// Iterator over the documents of a batch.
#[derive(Debug, Clone)]
pub struct Documents<'b> {
    buffer: &'b [u8],
    starts: std::slice::Iter<'b, u32>,
}

impl<'b> Iterator for Documents<'b> {
    type Item = RawDoc<'b>;

    fn next(&mut self) -> Option<RawDoc<'b>> {
        let start = *self.starts.next()? as usize;
        let document = RawDoc::first_in(&self.buffer[start..]);
        Some(document.expect("every start was checked when the batch was made"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.starts.size_hint()
    }
}

impl ExactSizeIterator for Documents<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn a_reply_and_a_dump_give_the_same_documents() {
        let documents = [doc! {"_id": 1}, doc! {"_id": 2, "x": "y"}, doc! {}];
        let each: Vec<Vec<u8>> = documents.iter().map(|d| d.to_vec().unwrap()).collect();
        let reply = doc! {"firstBatch": documents.to_vec()}.to_vec().unwrap();
        let array = RawDoc::new(&reply).unwrap().get(b"firstBatch").unwrap().unwrap();
        let at = array.bytes.as_ptr() as usize - reply.as_ptr() as usize;
        let from_reply = DocumentBatch::from_array(Bytes::from(reply.clone()), at).unwrap();
        let from_dump = DocumentBatch::from_sequence(Bytes::from(each.concat())).unwrap();
        for batch in [from_reply, from_dump] {
            let bytes: Vec<&[u8]> = batch.documents().map(RawDoc::as_bytes).collect();
            assert_eq!(bytes, each);
            assert_eq!(batch.document_bytes(), each.concat().len());
            let shared: Vec<Bytes> = (0..4).map_while(|number| batch.share(number)).collect();
            assert_eq!(shared, each);
        }
    }

    #[test]
    fn a_cut_dump_or_an_array_of_numbers_is_refused() {
        let bytes = doc! {"_id": 1}.to_vec().unwrap();
        let cut = [bytes.as_slice(), &bytes[..7]].concat();
        assert_eq!(DocumentBatch::from_sequence(Bytes::from(cut)).unwrap_err().at, bytes.len());
        let array = doc! {"0": 1}.to_vec().unwrap();
        assert!(DocumentBatch::from_array(Bytes::from(array), 0).is_err());
        assert!(DocumentBatch::from_array(Bytes::new(), 9).is_err());
    }
}
