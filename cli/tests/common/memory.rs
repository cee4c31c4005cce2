//! Looking for a text in everything that others could read: arguments, environments and memory of processes, files.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;
const PAGE: usize = 4096;
/// Of an entry in `pagemap`: the page is in memory, or in swap.
const PRESENT: u64 = 1 << 63 | 1 << 62;

/// Texts that must not be anywhere, each in the forms in which a program may hold it.
pub struct Needles(Vec<(String, memchr::memmem::Finder<'static>)>);

impl Needles {
    /// The middle of each text is looked for: part of a key is too much of it.
    pub fn new(texts: &[&str]) -> Self {
        let forms = |text: &&str| {
            let part = &text[text.len() / 4..text.len() - text.len() / 4];
            let wide: Vec<u8> = part.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let narrow = memchr::memmem::Finder::new(part.as_bytes()).into_owned();
            let wide = memchr::memmem::Finder::new(&wide).into_owned();
            [((*text).to_owned(), narrow), (format!("{text} (UTF-16)"), wide)]
        };
        Self(texts.iter().flat_map(forms).collect())
    }

    /// Which of them are in these bytes.
    pub fn find(&self, bytes: &[u8]) -> Vec<&str> {
        let found = self.0.iter().filter(|(_, finder)| finder.find(bytes).is_some());
        found.map(|(name, _)| name.as_str()).collect()
    }

    fn longest(&self) -> usize {
        let lengths = self.0.iter().map(|(_, finder)| finder.needle().len());
        lengths.max().unwrap_or(0)
    }

    /// What is found in a process, by place; none where its memory may not be read. One that ends meanwhile holds
    /// nothing.
    pub fn in_process(&self, pid: u32) -> Option<Vec<String>> {
        let mut places = Vec::new();
        for name in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            places.extend(self.find(&bytes).iter().map(|found| format!("{name}: {found}")));
        }
        match self.in_memory(pid) {
            Ok(found) => places.extend(found),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
            // ESRCH and its like: it has ended.
            Err(_) => {}
        }
        Some(places)
    }

    fn in_memory(&self, pid: u32) -> std::io::Result<Vec<String>> {
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let pages = File::open(format!("/proc/{pid}/pagemap"))?;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let mut places = Vec::new();
        for line in maps.lines() {
            let (range, rest) = line.split_once(' ').unwrap();
            if !rest.starts_with('r') || rest.contains("[v") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap();
            let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
            let found = self.in_region((&memory, &pages), number(from), number(to));
            places.extend(found.iter().map(|found| format!("memory {line}: {found}")));
        }
        Ok(places)
    }

    /// Reads the pages of a region that exist: some are terabytes of nothing.
    fn in_region(&self, (memory, pages): (&File, &File), from: usize, to: usize) -> Vec<&str> {
        let mut found = Vec::new();
        let mut entries = vec![0; BLOCK];
        let mut at = from;
        // The end of what was read last, for a text that lies across two reads.
        let mut tail: Vec<u8> = Vec::new();
        while at < to {
            let count = ((to - at) / PAGE).min(entries.len() / 8);
            let part = &mut entries[..count * 8];
            if pages.read_exact_at(part, (at / PAGE * 8) as u64).is_err() {
                break;
            }
            let is_there = |index: &usize| {
                let entry = part[index * 8..index * 8 + 8].try_into().unwrap();
                u64::from_le_bytes(entry) & PRESENT != 0
            };
            for index in 0..count {
                if !is_there(&index) {
                    tail.clear();
                    continue;
                }
                let begin = tail.len();
                tail.resize(begin + PAGE, 0);
                let address = (at + index * PAGE) as u64;
                if memory.read_exact_at(&mut tail[begin..], address).is_err() {
                    tail.clear();
                } else if tail.len() >= BLOCK || !(index + 1 < count && is_there(&(index + 1))) {
                    found.extend(self.find(&tail));
                    let keep = tail.len().saturating_sub(self.longest());
                    tail.drain(..keep);
                }
            }
            at += count * PAGE;
        }
        found
    }

    /// What is found in the files below a directory. Links are not followed.
    pub fn in_files(&self, folder: &Path) -> Vec<String> {
        let mut places = Vec::new();
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (kind, path) = (entry.file_type().unwrap(), entry.path());
                if kind.is_dir() {
                    open.push(path);
                    continue;
                }
                let name = path.display().to_string();
                // What is removed meanwhile is no place to look for it either.
                let bytes = if kind.is_file() {
                    std::fs::read(&path).unwrap_or_default()
                } else {
                    Vec::new()
                };
                let found = self.find(&bytes).into_iter().chain(self.find(name.as_bytes()));
                places.extend(found.map(|found| format!("{name}: {found}")));
            }
        }
        places
    }
}
