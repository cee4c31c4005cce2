//! Taking secrets out of the environment of this process.
#![allow(unsafe_code)]

use zeroize::Zeroizing;

/// Why a variable could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error("environment variables must be taken before any thread is started")]
    Threads,
    #[error("reading /proc/self/status")]
    Status(#[source] std::io::Error),
}

/// Reads the variables and removes them, so that nothing this process starts inherits them.
///
/// Values that are not UTF-8 count as absent. Must be called while the process has one thread; that is checked.
pub fn take(names: &[String]) -> Result<Vec<Option<Zeroizing<String>>>, EnvironmentError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    if !single_threaded()? {
        return Err(EnvironmentError::Threads);
    }
    let values = names
        .iter()
        .map(|name| std::env::var(name).ok().map(Zeroizing::new))
        .collect();
    for name in names {
        // SAFETY: the process has one thread (checked above), so nothing else reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    Ok(values)
}

fn single_threaded() -> Result<bool, EnvironmentError> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(EnvironmentError::Status)?;
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    Ok(threads.is_some_and(|count| count.trim() == "1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_refused() {
        // The test harness itself runs this in a second thread.
        assert!(matches!(
            take(&["LODGE_TEST_ABSENT".into()]),
            Err(EnvironmentError::Threads)
        ));
        assert!(take(&[]).unwrap().is_empty());
    }
}
