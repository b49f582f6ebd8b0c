//! The nodes of a large collection, by number, in pages: nodes and pages are shared with clones until one side changes them, so a
//! clone takes time for pages, and what is changed first afterwards is copied a page at a time.

use std::rc::Rc;

/// Nodes of a page: few, so that a collection of one node is small.
const PAGE_NODES: usize = 32;
/// The counts of an `Rc`.
const COUNTS_BYTES: usize = 2 * size_of::<usize>();

type Page<T> = [Option<Rc<T>>; PAGE_NODES];

#[derive(Clone)]
pub(super) struct Pages<T> {
    pages: Vec<Rc<Page<T>>>,
    /// Nodes: all places before are taken, none behind.
    len: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Pages { pages: Vec::new(), len: 0 }
    }
}

impl<T: Clone> Pages<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }
    #[inline]
    pub(super) fn get(&self, number: usize) -> &T {
        self.pages[number / PAGE_NODES][number % PAGE_NODES].as_ref().expect("callers name nodes that are there")
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter().flatten()).map(Rc::as_ref)
    }
    #[inline]
    pub(super) fn make_mut(&mut self, number: usize) -> &mut T {
        Rc::make_mut(self.place(number).as_mut().expect("callers name nodes that are there"))
    }
    pub(super) fn push(&mut self, node: T) {
        if self.len == self.pages.len() * PAGE_NODES {
            self.pages.push(Rc::new([const { None }; PAGE_NODES]));
        }
        self.len += 1;
        *self.place(self.len - 1) = Some(Rc::new(node));
    }
    pub(super) fn pop(&mut self) -> Option<Rc<T>> {
        let last = self.len.checked_sub(1)?;
        let node = self.place(last).take();
        self.len = last;
        if last.is_multiple_of(PAGE_NODES) {
            self.pages.pop();
            if last == 0 {
                self.pages = Vec::new();
            }
        }
        node
    }
    /// Takes a node; the last one gets its number.
    pub(super) fn swap_remove(&mut self, number: usize) -> Rc<T> {
        let last = self.pop().expect("callers name nodes that are there");
        if number == self.len { last } else { self.place(number).replace(last).expect("it comes before the last") }
    }
    /// Another node in the place of this one.
    pub(super) fn replace(&mut self, number: usize, node: T) -> Rc<T> {
        self.place(number).replace(Rc::new(node)).expect("callers name nodes that are there")
    }
    /// Memory of nodes without what they hold outside of themselves, and of pages.
    pub(super) fn bytes_used(&self) -> usize {
        let pages = self.pages.len() * (COUNTS_BYTES + size_of::<Page<T>>());
        self.pages.capacity() * size_of::<Rc<Page<T>>>() + pages + self.len * (COUNTS_BYTES + size_of::<T>())
    }
    #[inline]
    fn place(&mut self, number: usize) -> &mut Option<Rc<T>> {
        &mut Rc::make_mut(&mut self.pages[number / PAGE_NODES])[number % PAGE_NODES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_its_nodes_while_the_other_changes() {
        let mut pages = Pages::default();
        (0..100).for_each(|n| pages.push(n));
        let clone = pages.clone();
        *pages.make_mut(40) = 1000;
        assert_eq!(*pages.replace(70, 2000), 70);
        (0..59).for_each(|n| assert_eq!(pages.pop().map(|node| *node), Some(if n == 29 { 2000 } else { 99 - n })));
        assert_eq!(*pages.swap_remove(3), 3);
        pages.push(3000);
        assert_eq!((pages.len(), *pages.get(3), *pages.get(40)), (41, 1000, 3000));
        assert!(clone.iter().copied().eq(0..100));
        assert_eq!(pages.iter().count(), 41);
        while pages.pop().is_some() {}
        assert_eq!(pages.pages.len(), 0);
    }
}
