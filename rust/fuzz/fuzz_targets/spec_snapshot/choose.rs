//! Choices that the fuzzer's bytes make, one byte each. Once they are used up, the first choice.
//!
//! So an input of zeros, or of nothing, is an ordinary specification, and one changed byte
//! changes one thing in it.

use arbitrary::Unstructured;

/// From here on a byte chooses something wrong: one in 16, since a specification of random
/// choices must have a chance to be right in all its parts.
const WRONG: u8 = 240;

/// The fuzzer's bytes, and whether they have chosen anything wrong.
pub struct Choices<'a> {
    bytes: Unstructured<'a>,
    wrong: bool,
}

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Unstructured::new(bytes),
            wrong: false,
        }
    }

    /// Whether anything wrong was chosen, so that the specification must be refused.
    pub fn wrong(&self) -> bool {
        self.wrong
    }

    /// One of `right`, or one of `wrong`: each of those makes any specification wrong.
    pub fn pick<T: Clone>(&mut self, right: &[T], wrong: &[T]) -> T {
        // An integer is 0 once the bytes are used up.
        let byte = self.bytes.arbitrary::<u8>().unwrap_or(0);
        let wrongly = right.is_empty() || (byte >= WRONG && !wrong.is_empty());
        self.wrong |= wrongly;
        let from = if wrongly { wrong } else { right };
        from[usize::from(byte) % from.len()].clone()
    }

    /// A list of one to three; or of none, which is wrong.
    pub fn some<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.pick(&[1, 2, 3], &[0]);
        (0..count).map(|_| one(self)).collect()
    }

    /// A name beside those that are `taken`.
    pub fn name(&mut self, taken: &mut Vec<String>) -> String {
        let nth = taken.len();
        let right = [
            format!("n{nth}"),
            format!("n.{nth}"),
            format!("{nth}\0\n\u{fc}"),
        ];
        let mut wrong = taken.clone();
        wrong.push(String::new());
        let name = self.pick(&right, &wrong);
        taken.push(name.clone());
        name
    }
}
