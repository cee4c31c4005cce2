//! Text of agents made safe for a terminal, and turns shown as text.

pub mod render;

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

/// Whether a character must not reach a terminal: C0 but line feed and tab, DEL, C1, and the controls that
/// reorder or hide text (bidirectional, zero width, tags).
const fn is_unsafe(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` with every unsafe character replaced by a visible one. Without the ESC or the C1 introducer, what follows
/// of an OSC, DCS or CSI sequence is plain text: nothing is lost and nothing is obeyed.
pub fn safe(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => {}
            '\0'..='\u{1f}' if is_unsafe(c) => out.extend(char::from_u32(0x2400 + u32::from(c))),
            '\u{7f}' => out.push('\u{2421}'),
            _ if is_unsafe(c) => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The same on one line of at most `columns` characters.
pub fn one_line(text: &str, columns: usize) -> String {
    let flat: String = safe(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= columns {
        return flat;
    }
    let mut short: String = flat.chars().take(columns.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Whether both ends of a conversation are at a terminal.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Writes to standard output.
pub fn try_print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes to standard output; a reader that went away ends the program, as it does for other tools. For commands
/// that leave nothing behind.
pub fn print(text: &str) {
    if try_print(text).is_err() {
        std::process::exit(0);
    }
}

/// One line on standard error, where nobody may read any more. Also right while the terminal is in raw mode.
pub fn complain(text: &str) {
    let mut out = std::io::stderr().lock();
    let text = if out.is_terminal() {
        text.replace('\n', "\r\n") + "\r\n"
    } else {
        format!("{text}\n")
    };
    let _ = out.write_all(text.as_bytes());
}

/// One line on standard output.
pub fn println(text: &str) {
    print(&format!("{text}\n"));
}

/// A value as indented JSON on standard output.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println(&serde_json::to_string_pretty(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_gets_through_and_plain_text_is_untouched() {
        let plain = "grüße 🙂 漢字\n\ttab";
        assert!(matches!(safe(plain), Cow::Borrowed(text) if text == plain));
        let hostile =
            "\u{1b}[2J\u{1b}]52;c;eA==\u{7}\u{9b}31m\u{90}q\u{9c}\u{202e}abc\u{2066}\r\nx\ry\u{200b}";
        let shown = safe(hostile);
        assert!(!shown.contains(is_unsafe), "{shown:?}");
        assert!(shown.contains("]52;c;eA=="), "the text itself is kept: {shown:?}");
        assert!(shown.contains("\nx␍y"));
    }

    #[test]
    fn every_unsafe_character_is_replaced() {
        for c in (0..=0x10_ffff)
            .filter_map(char::from_u32)
            .filter(|c| is_unsafe(*c))
        {
            assert!(!safe(&format!("a{c}b")).contains(is_unsafe), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn one_line_is_short_and_flat() {
        assert_eq!(one_line("a\nb   c", 20), "a b c");
        assert_eq!(one_line("abcdefgh", 5), "abcd…");
    }
}
