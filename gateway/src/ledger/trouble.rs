//! What fails for a while is said when it begins and when it ends, not each time.

/// Something that works or does not.
#[derive(Debug)]
pub(super) struct Trouble {
    doing: &'static str,
    is_failing: bool,
}

impl Trouble {
    pub(super) fn new(doing: &'static str) -> Self {
        let is_failing = false;
        Self { doing, is_failing }
    }

    /// Takes in how it went this time.
    pub(super) fn note<E: std::error::Error>(&mut self, done: &Result<(), E>) {
        match done {
            Err(error) if !self.is_failing => {
                tracing::error!(error = crate::causes(error), "the ledger: {}", self.doing);
            }
            Ok(()) if self.is_failing => tracing::info!("the ledger works again: {}", self.doing),
            _ => {}
        }
        self.is_failing = done.is_err();
    }
}
