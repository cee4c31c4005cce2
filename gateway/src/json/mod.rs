//! JSON as bytes: fields are found and replaced where they stand, everything else stays as it was sent.
//!
//! Writing a parsed body again would change numbers, escapes and the order of keys, and with them the provider's
//! prompt cache and the signatures of thinking.

mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use scan::Scanner;

/// Bytes that are no JSON object, or broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a JSON object")]
pub struct NoObject;

/// A field of an object, by where it is in the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as it is meant: escapes are resolved.
    pub name: String,
    /// The value's bytes, without white space around them.
    pub value: Range<usize>,
}

/// The fields of the object that `body` is, in order, those that come twice included.
///
/// The bytes are expected to have been checked to be JSON; of others the result is an error or some fields, never
/// ranges outside them.
pub fn fields(body: &[u8]) -> Result<Vec<Field>, NoObject> {
    let mut scanner = Scanner::new(body, 0);
    Ok(object(&mut scanner)?.0)
}

/// The value of `path`, if every part of it is an object with that name once or more; of several the last one.
pub fn get<'a>(body: &'a [u8], path: &[&str]) -> Option<&'a [u8]> {
    path.iter().try_fold(body, |body, name| {
        let fields = fields(body).ok()?;
        let field = fields.into_iter().rev().find(|field| field.name == *name)?;
        Some(&body[field.value])
    })
}

/// The values of the array at `range` of the body, in order.
pub fn elements(body: &[u8], range: Range<usize>) -> Result<Vec<Range<usize>>, NoObject> {
    let mut scanner = Scanner::new(body.get(..range.end).ok_or(NoObject)?, range.start);
    scanner.expect(b'[')?;
    let mut elements = Vec::new();
    if scanner.accept(b']') {
        return Ok(elements);
    }
    loop {
        elements.push(scanner.value()?);
        if scanner.accept(b']') {
            return Ok(elements);
        }
        scanner.expect(b',')?;
    }
}

/// The same body with the value of `path` replaced by `value`, which must be JSON.
///
/// A name that comes twice is replaced each time, so that it does not matter which one a parser takes. What is not
/// there is added at the end of its object; what is in the way and no object is replaced by one. An empty path changes
/// nothing.
pub fn set(body: &[u8], path: &[&str], value: &str) -> Result<Vec<u8>, NoObject> {
    let mut edits = Vec::new();
    collect(body, 0, path, value, &mut edits)?;
    let grown: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut spliced = Vec::with_capacity(body.len() + grown);
    let mut at = 0;
    for (range, text) in edits {
        spliced.extend_from_slice(&body[at..range.start]);
        spliced.extend_from_slice(text.as_bytes());
        at = range.end;
    }
    spliced.extend_from_slice(&body[at..]);
    Ok(spliced)
}

/// Text as a JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The fields of the object at the scanner, and where another one could be added.
fn object(scanner: &mut Scanner<'_>) -> Result<(Vec<Field>, usize), NoObject> {
    scanner.expect(b'{')?;
    let mut fields = Vec::new();
    let mut end = scanner.at();
    if scanner.accept(b'}') {
        return Ok((fields, end));
    }
    loop {
        let name = scanner.string()?;
        let name = decoded(scanner.slice(name)).ok_or(NoObject)?.into_owned();
        scanner.expect(b':')?;
        let value = scanner.value()?;
        end = value.end;
        fields.push(Field { name, value });
        if scanner.accept(b'}') {
            return Ok((fields, end));
        }
        scanner.expect(b',')?;
    }
}

fn collect(
    body: &[u8],
    at: usize,
    path: &[&str],
    value: &str,
    edits: &mut Vec<(Range<usize>, String)>,
) -> Result<(), NoObject> {
    let Some((name, rest)) = path.split_first() else {
        return Ok(());
    };
    let (fields, end) = object(&mut Scanner::new(body, at))?;
    let mut found = false;
    for field in fields.iter().filter(|field| field.name == *name) {
        found = true;
        if rest.is_empty() || body[field.value.start] != b'{' {
            edits.push((field.value.clone(), nested(rest, value)));
        } else {
            collect(body, field.value.start, rest, value, edits)?;
        }
    }
    if !found {
        let comma = if fields.is_empty() { "" } else { "," };
        edits.push((
            end..end,
            format!("{comma}{}:{}", quoted(name), nested(rest, value)),
        ));
    }
    Ok(())
}

/// `value` within an object for each part of the path.
fn nested(path: &[&str], value: &str) -> String {
    path.iter().rev().fold(value.to_owned(), |inner, name| {
        format!("{{{}:{inner}}}", quoted(name))
    })
}

/// A JSON string without its quotes and escapes.
pub(crate) fn decoded(string: &[u8]) -> Option<Cow<'_, str>> {
    let inner = string.get(1..string.len().checked_sub(1)?)?;
    if inner.contains(&b'\\') {
        return serde_json::from_slice(string).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}
