//! One component of a glob as a machine of its own: `?`, `*`, `[…]` and `{a,b}` over the bytes of one name.
//!
//! Runs where [`super::Glob`] does. It says of every pattern and name what the policy's own matcher says of them, which a test
//! compares, and is a hundredth of its size: processes that are started for each command link it, and compile every rule
//! whether it is asked or not. Its states are a set that goes through the name once, so no pattern takes more than linear
//! time for each of its bytes (T-06).

use super::Case;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    steps: Vec<Step>,
}

/// Where it goes on is always further on.
#[derive(Debug, Clone)]
enum Step {
    /// One byte of a set.
    One(Bytes),
    /// Any bytes, or none.
    Any,
    /// The next step, or the one so far on.
    Split(usize),
    /// The step so far on.
    Jump(usize),
}

/// A set of bytes.
#[derive(Debug, Clone, Default)]
struct Bytes([u128; 2]);

impl Bytes {
    fn add(&mut self, byte: u8) {
        let (half, bit) = place(byte);
        if let Some(half) = self.0.get_mut(half) {
            *half |= bit;
        }
    }

    fn has(&self, byte: u8) -> bool {
        let (half, bit) = place(byte);
        self.0.get(half).is_some_and(|half| half & bit != 0)
    }

    fn of(byte: u8) -> Bytes {
        let mut set = Bytes::default();
        set.add(byte);
        set
    }

    /// With both cases of each letter of ASCII: no other byte has a case by itself.
    fn folded(self, case: Case) -> Bytes {
        let mut set = self.clone();
        if case == Case::Folded {
            (0..=u8::MAX).filter(|byte| self.has(*byte)).for_each(|byte| {
                set.add(byte.to_ascii_lowercase());
                set.add(byte.to_ascii_uppercase());
            });
        }
        set
    }

    fn others(self) -> Bytes {
        Bytes(self.0.map(|half| !half))
    }
}

fn place(byte: u8) -> (usize, u128) {
    (usize::from(byte >> 7), 1_u128.checked_shl(u32::from(byte & 0x7f)).unwrap_or(0))
}

/// A pattern before it is laid out.
enum Token {
    Literal(char),
    One,
    Any,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// Branches; an empty one is none.
    Either(Vec<Vec<Token>>),
}

impl Pattern {
    /// Parses one component, which holds no slash.
    pub fn parse(text: &str, case: Case) -> Result<Pattern, &'static str> {
        let mut steps = Vec::new();
        for token in tokens(text)? {
            lay_out(&token, case, &mut steps)?;
        }
        Ok(Pattern { steps })
    }

    /// Whether it matches all of a name.
    pub fn is_match(&self, name: &[u8]) -> bool {
        let end = self.steps.len();
        let mut here = vec![false; end.saturating_add(1)];
        self.enter(&mut here, 0);
        self.go_on(&mut here);
        let mut next = here.clone();
        for byte in name {
            next.fill(false);
            for (at, step) in self.steps.iter().enumerate().filter(|(at, _)| here.get(*at) == Some(&true)) {
                match step {
                    Step::One(set) if set.has(*byte) => self.enter(&mut next, at.saturating_add(1)),
                    Step::Any => self.enter(&mut next, at),
                    _ => {}
                }
            }
            self.go_on(&mut next);
            std::mem::swap(&mut here, &mut next);
        }
        here.get(end) == Some(&true)
    }

    fn enter(&self, states: &mut [bool], at: usize) {
        if let Some(state) = states.get_mut(at) {
            *state = true;
        }
    }

    /// Adds what is reached without a byte. Every such way leads further on, so once through is enough.
    fn go_on(&self, states: &mut [bool]) {
        for (at, step) in self.steps.iter().enumerate() {
            if states.get(at) != Some(&true) {
                continue;
            }
            match step {
                Step::One(_) => {}
                Step::Any => self.enter(states, at.saturating_add(1)),
                Step::Jump(far) => self.enter(states, at.saturating_add(*far)),
                Step::Split(far) => {
                    self.enter(states, at.saturating_add(1));
                    self.enter(states, at.saturating_add(*far));
                }
            }
        }
    }
}

/// The branches that are being read: the outermost is the pattern, each `{` adds a list of them.
fn tokens(text: &str) -> Result<Vec<Token>, &'static str> {
    if text.contains("**") {
        return Err("`**` mixed with other characters");
    }
    let mut open: Vec<Vec<Vec<Token>>> = vec![vec![Vec::new()]];
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        let token = match next {
            '{' => {
                open.push(vec![Vec::new()]);
                continue;
            }
            '}' if open.len() > 1 => Token::Either(open.pop().unwrap_or_default()),
            '}' => return Err("a `}` without its `{`"),
            ',' if open.len() > 1 => {
                open.last_mut().ok_or("no branch")?.push(Vec::new());
                continue;
            }
            '?' => Token::One,
            '*' => Token::Any,
            '[' => class(&mut chars)?,
            '\\' => Token::Literal(chars.next().ok_or("a `\\` at the end")?),
            other => Token::Literal(other),
        };
        open.last_mut().and_then(|branches| branches.last_mut()).ok_or("no branch")?.push(token);
    }
    match (open.pop().and_then(|mut branches| branches.pop()), open.is_empty()) {
        (Some(tokens), true) => Ok(tokens),
        _ => Err("a `{` without its `}`"),
    }
}

/// What stands between brackets; a `]` or a `-` at the beginning stands for itself, and so does a `-` at the end.
fn class(chars: &mut std::str::Chars<'_>) -> Result<Token, &'static str> {
    let mut rest = chars.clone();
    let negated = matches!(rest.next(), Some('!' | '^'));
    if negated {
        *chars = rest;
    }
    let mut ranges: Vec<(char, char)> = Vec::new();
    let mut in_range = false;
    loop {
        let next = chars.next().ok_or("a `[` without its `]`")?;
        match (next, ranges.last_mut()) {
            (']', Some(_)) => break,
            ('-', Some(_)) if !in_range => in_range = true,
            (end, Some(last)) if in_range => {
                *last = (last.0, end);
                if end < last.0 {
                    return Err("a range whose end comes before its beginning");
                }
                in_range = false;
            }
            (other, _) => ranges.push((other, other)),
        }
    }
    if in_range {
        ranges.push(('-', '-'));
    }
    Ok(Token::Class { negated, ranges })
}

fn lay_out(token: &Token, case: Case, steps: &mut Vec<Step>) -> Result<(), &'static str> {
    match token {
        Token::Literal(char) => {
            let mut buffer = [0; 4];
            let bytes = char.encode_utf8(&mut buffer).bytes();
            steps.extend(bytes.map(|byte| Step::One(Bytes::of(byte).folded(case))));
        }
        Token::One => steps.push(Step::One(Bytes::default().others())),
        Token::Any => steps.push(Step::Any),
        Token::Class { negated, ranges } => {
            let set = bytes_of(ranges)?.folded(case);
            steps.push(Step::One(if *negated { set.others() } else { set }));
        }
        Token::Either(branches) => either(branches, case, steps)?,
    }
    Ok(())
}

/// A class is one of bytes, as the policy's matcher has it: a letter beyond ASCII stands for each of its bytes.
fn bytes_of(ranges: &[(char, char)]) -> Result<Bytes, &'static str> {
    let mut set = Bytes::default();
    for (from, to) in ranges {
        let (mut first, mut last) = ([0; 4], [0; 4]);
        let (from_bytes, to_bytes) = (from.encode_utf8(&mut first).as_bytes(), to.encode_utf8(&mut last).as_bytes());
        from_bytes.iter().chain(to_bytes).for_each(|byte| set.add(*byte));
        if from == to {
            continue;
        }
        let (Some(from), Some(to)) = (from_bytes.last(), to_bytes.first()) else { continue };
        if to < from {
            return Err("a range of letters beyond ASCII");
        }
        (*from..=*to).for_each(|byte| set.add(byte));
    }
    Ok(set)
}

/// `split first jump split second jump third`: each branch but the last can be passed over, and leads to the end of all.
fn either(branches: &[Vec<Token>], case: Case, steps: &mut Vec<Step>) -> Result<(), &'static str> {
    let mut laid_out = Vec::new();
    for branch in branches {
        let mut own = Vec::new();
        for token in branch {
            lay_out(token, case, &mut own)?;
        }
        if !own.is_empty() {
            laid_out.push(own);
        }
    }
    // From the last one back, so that it is known how far it is to the end.
    let mut all: Vec<Step> = Vec::new();
    for own in laid_out.into_iter().rev() {
        if all.is_empty() {
            all = own;
            continue;
        }
        let mut with = vec![Step::Split(own.len().saturating_add(2))];
        with.extend(own);
        with.push(Step::Jump(all.len().saturating_add(1)));
        with.extend(all);
        all = with;
    }
    steps.extend(all);
    Ok(())
}

#[cfg(test)]
mod tests;
