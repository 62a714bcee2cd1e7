//! Lists that share with the lists before them what has not changed.

use std::ops::Index;
use std::sync::Arc;

/// Items of a block. Fewer make more of a list stand when a few of its items change; more cost less to pass over.
const BLOCK: usize = 8;

/// A list in blocks. What has been made of a block holds as long as the same block is there.
#[derive(Clone, Debug)]
pub struct Blocks<T>(Vec<Arc<Box<[T]>>>);

impl<T> Blocks<T> {
    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter().flat_map(|block| block.iter())
    }

    /// The blocks, in order.
    pub(crate) fn blocks(&self) -> &[Arc<Box<[T]>>] {
        &self.0
    }
}

impl<T: PartialEq> Blocks<T> {
    /// A list that takes the blocks of the list before where they say the same. `make` is given what was made before in
    /// vain, for its memory.
    pub(crate) fn renewed<I>(
        before: &Self,
        items: impl IntoIterator<Item = I>,
        mut make: impl FnMut(I, Option<T>) -> T,
    ) -> Self {
        let (mut items, mut before, mut spare) = (items.into_iter(), before.0.iter(), Vec::new());
        let blocks = std::iter::from_fn(|| {
            let made: Vec<T> = items.by_ref().take(BLOCK).map(|item| make(item, spare.pop())).collect();
            match before.next().filter(|before| before[..] == made[..]) {
                Some(before) => {
                    spare = made;
                    Some(before.clone())
                }
                None => (!made.is_empty()).then(|| Arc::new(made.into_boxed_slice())),
            }
        });
        Self(blocks.collect())
    }

    /// Takes the blocks of the list before where they say the same.
    pub fn share(&mut self, before: &Self) {
        for (block, before) in self.0.iter_mut().zip(&before.0) {
            if Arc::ptr_eq(block, before) || block == before {
                block.clone_from(before);
            }
        }
    }
}

impl<T> Index<usize> for Blocks<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.0[at / BLOCK][at % BLOCK]
    }
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> FromIterator<T> for Blocks<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = items.into_iter();
        let blocks = std::iter::from_fn(|| {
            let block: Box<[T]> = items.by_ref().take(BLOCK).collect();
            (!block.is_empty()).then(|| Arc::new(block))
        });
        Self(blocks.collect())
    }
}

impl<T> From<Vec<T>> for Blocks<T> {
    fn from(items: Vec<T>) -> Self {
        items.into_iter().collect()
    }
}
