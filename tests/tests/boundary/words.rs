//! Rust source as words: what is comment or text is taken out, so that a rule about code is about code.

/// The code of a file: comments, strings and character literals are blanked, lines stay where they are.
pub fn code_of(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if rest.starts_with('"') {
            quoted(rest)
        } else if let Some(length) = raw_string(rest, at.checked_sub(1).map(|before| bytes[before])) {
            length
        } else {
            character(rest)
        };
        if skipped == 0 {
            let next = rest.chars().next().expect("not empty");
            code.push(next);
            at += next.len_utf8();
        } else {
            code.extend(rest[..skipped].chars().map(|each| if each == '\n' { '\n' } else { ' ' }));
            at += skipped;
        }
    }
    code
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, each) in rest.char_indices().skip(1) {
        match each {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, after `b` or `c` or alone; not the end of another word.
fn raw_string(rest: &str, before: Option<u8>) -> Option<usize> {
    let word = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    if before.is_some_and(|byte| word(byte) && !matches!(byte, b'b' | b'c')) {
        return None;
    }
    let marks = rest.strip_prefix('r')?;
    let hashes = marks.len() - marks.trim_start_matches('#').len();
    let text = marks[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - text.len();
    Some(text.find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

/// A character literal; a lifetime is none.
fn character(rest: &str) -> usize {
    let Some(inner) = rest.strip_prefix('\'') else { return 0 };
    if let Some(escaped) = inner.strip_prefix('\\') {
        return escaped.find('\'').map_or(0, |at| if at == 0 { 4 } else { at + 3 });
    }
    let first = inner.chars().next().map_or(0, char::len_utf8);
    if inner[first..].starts_with('\'') { first + 2 } else { 0 }
}

/// Words of the code with the number of their line and what follows each.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    code.lines().enumerate().flat_map(|(number, line)| {
        let is_word = |each: char| each == '_' || each.is_alphanumeric();
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = at + line[at..].find(is_word)?;
            let length = line[start..].find(|each| !is_word(each)).unwrap_or(line.len() - start);
            at = start + length;
            Some((number + 1, &line[start..at], line[at..].trim_start()))
        })
    })
}

#[test]
fn comments_and_texts_are_no_code() {
    let source = r##"let a = "unsafe"; // unsafe
/* unsafe /* unsafe */ unsafe */ let b = 'u'; let c = '\''; let d = r#"unsafe " unsafe"#; fn f<'a>(x: &'a u8) {}
/// unsafe
let e = "\"unsafe"; unsafe { g() }"##;
    let code = code_of(source);
    assert_eq!(code.lines().count(), source.lines().count());
    let found: Vec<_> =
        words(&code).filter(|(_, word, _)| *word == "unsafe").map(|(line, _, rest)| (line, rest.len() > 1)).collect();
    assert_eq!(found, [(4, true)]);
    assert!(words(&code).any(|(line, word, _)| (line, word) == (2, "f")));
}
