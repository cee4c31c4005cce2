//! What a machine said last, on its console and QEMU's standard error: kept for errors, bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes kept; a guest that floods its console only costs its own time.
const KEPT: usize = 8 << 10;
/// Bytes of it in an error.
const SHOWN: usize = 2 << 10;

/// Bytes with a bound, the oldest go first.
#[derive(Debug, Clone, Default)]
pub(super) struct Console(Arc<Mutex<VecDeque<u8>>>);

impl Console {
    /// Takes everything from `source` until it ends.
    pub(super) async fn follow(self, mut source: impl AsyncRead + Unpin) {
        let mut chunk = [0; 4096];
        while let Ok(got) = source.read(&mut chunk).await {
            if got == 0 {
                break;
            }
            self.push(&chunk[..got]);
        }
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    /// The last of it as one line without control characters: a guest wrote it.
    pub(super) fn last_words(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = kept.len().saturating_sub(SHOWN);
        let bytes: Vec<u8> = kept.iter().skip(start).copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text
            .split(['\n', '\r'])
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let line = lines.collect::<Vec<_>>().join(" | ");
        let plain: String = line.chars().filter(|c| !c.is_control()).collect();
        if plain.is_empty() {
            "it said nothing".to_owned()
        } else {
            plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Console, KEPT};

    #[tokio::test]
    async fn a_flood_is_bounded_and_its_end_is_kept() {
        let console = Console::default();
        let mut flood = vec![b'x'; 10 * KEPT];
        flood.extend(b"\nthe \x1b[31mend\r\n");
        console.clone().follow(flood.as_slice()).await;
        assert_eq!(console.0.lock().map_or(0, |kept| kept.len()), KEPT);
        assert!(
            console.last_words().ends_with(" | the [31mend"),
            "{}",
            console.last_words()
        );
    }
}
