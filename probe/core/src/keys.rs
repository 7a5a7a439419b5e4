//! The keys of a check's definition, as whoever reads a configuration offers
//! them: each kind and layer takes those that it knows.
//!
//! A key that nobody took belongs to nothing that is probed. Whoever reads the
//! configuration refuses it at its place, so that nobody believes a path to be
//! watched that is not.

use core::time::Duration;

/// A value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// Several values, in order.
    List(Vec<Value>),
    /// Values by name, in order.
    Table(Vec<(String, Value)>),
}

impl Value {
    const fn what(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Flag(_) => "true or false",
            Self::Number(_) => "a number",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Where a definition's keys come from.
pub trait Keys {
    /// The value of a key, which counts as taken from then on.
    fn take(&mut self, key: &'static str) -> Option<Value>;
}

/// What is wrong with a key, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct KeyError {
    /// Which key is to be changed.
    pub key: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl KeyError {
    /// An error of a key.
    pub fn new(key: &'static str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            key,
            what: what.into(),
            hint: hint.into(),
        }
    }

    fn of_type(key: &'static str, value: &Value, wanted: &str) -> Self {
        let what = format!("{key} is {}, and must be {wanted}", value.what());
        Self::new(key, what, format!("write {wanted}"))
    }
}

/// The text of a key.
///
/// # Errors
///
/// It is no text.
pub fn text(keys: &mut dyn Keys, key: &'static str) -> Result<Option<String>, KeyError> {
    match keys.take(key) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(other) => Err(KeyError::of_type(key, &other, "a text in quotes")),
    }
}

/// The flag of a key.
///
/// # Errors
///
/// It is neither true nor false.
pub fn flag(keys: &mut dyn Keys, key: &'static str) -> Result<Option<bool>, KeyError> {
    match keys.take(key) {
        None => Ok(None),
        Some(Value::Flag(flag)) => Ok(Some(flag)),
        Some(other) => Err(KeyError::of_type(key, &other, "true or false")),
    }
}

/// The number of a key.
///
/// # Errors
///
/// It is no whole number, or out of the bounds given.
pub fn number(
    keys: &mut dyn Keys,
    key: &'static str,
    low: i64,
    high: i64,
) -> Result<Option<i64>, KeyError> {
    match keys.take(key) {
        None => Ok(None),
        Some(Value::Number(number)) if (low..=high).contains(&number) => Ok(Some(number)),
        Some(Value::Number(number)) => Err(KeyError::new(
            key,
            format!("{key} = {number} is out of range"),
            format!("choose {low} to {high}"),
        )),
        Some(other) => Err(KeyError::of_type(key, &other, "a whole number")),
    }
}

/// One of the words that a key may have, as what it stands for.
///
/// # Errors
///
/// It is none of them.
pub fn word<T: Copy>(
    keys: &mut dyn Keys,
    key: &'static str,
    words: &[(&str, T)],
) -> Result<Option<T>, KeyError> {
    let Some(text) = text(keys, key)? else {
        return Ok(None);
    };
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(Some(*meaning));
    }
    let listed: Vec<String> = words
        .iter()
        .map(|(word, _)| format!("\"{word}\""))
        .collect();
    Err(KeyError::new(
        key,
        format!("{key} = \"{text}\" means nothing"),
        format!("write one of {}", listed.join(", ")),
    ))
}

/// The texts of a key, by name: a table of texts.
///
/// # Errors
///
/// It is no such table.
pub fn texts(
    keys: &mut dyn Keys,
    key: &'static str,
) -> Result<Option<Vec<(String, String)>>, KeyError> {
    let wanted = "a table of texts, like { \"Name\" = \"value\" }";
    match keys.take(key) {
        None => Ok(None),
        Some(Value::Table(entries)) => entries
            .into_iter()
            .map(|(name, value)| match value {
                Value::Text(text) => Ok((name, text)),
                other => Err(KeyError::of_type(key, &other, wanted)),
            })
            .collect::<Result<_, _>>()
            .map(Some),
        Some(other) => Err(KeyError::of_type(key, &other, wanted)),
    }
}

/// The duration of a key, in whole milliseconds: `"500ms"`, `"2s"`, `"1m"`.
///
/// # Errors
///
/// It is no such text.
pub fn duration(keys: &mut dyn Keys, key: &'static str) -> Result<Option<Duration>, KeyError> {
    let Some(text) = text(keys, key)? else {
        return Ok(None);
    };
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &text[..text.len() - unit.len()];
    let factor = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => 0,
    };
    match digits.parse::<u32>() {
        Ok(count) if count > 0 && factor > 0 => {
            Ok(Some(Duration::from_millis(u64::from(count) * factor)))
        }
        _ => Err(KeyError::new(
            key,
            format!("{key} = \"{text}\" is no duration"),
            "write a number with its unit, like \"300ms\" or \"2s\"",
        )),
    }
}
