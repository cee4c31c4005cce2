//! Listings for people: columns as wide as their content.

use crate::terminal::{one_line, println};

/// Widest cell, in characters.
const CELL: usize = 60;

/// Prints `rows` under `head`. Cells are made safe and cut to 60 characters.
pub fn print<const N: usize>(head: [&str; N], rows: &[[String; N]]) {
    let cells: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| one_line(cell, CELL)))
        .collect();
    let mut widths = head.map(|name| name.chars().count());
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    println(&line(&head.map(str::to_owned), &widths));
    for row in &cells {
        println(&line(row, &widths));
    }
}

fn line<const N: usize>(cells: &[String; N], widths: &[usize; N]) -> String {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:<width$}"))
        .collect();
    padded.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let widths = [4, 2];
        assert_eq!(line(&["ab".into(), "c".into()], &widths), "ab    c");
    }
}
