// Union-find on the CPU: a forest in which every node leads to an earlier one, the first of a set to itself. Where node
// i leads is parent(i), a reference to an integer that the caller keeps wherever it likes.
#pragma once

namespace pyws {

// The first of the set of node i; halves the way to it.
template <class Index, class Parent>
Index find_first(Index i, const Parent& parent) {
  while (parent(i) != i) i = parent(i) = parent(parent(i));
  return i;
}

// The two sets that became one, by their first nodes; equal where they were one before.
template <class Index>
struct Joined {
  Index into, from;
};

template <class Index, class Parent>
Joined<Index> join_sets(Index a, Index b, const Parent& parent) {
  a = find_first(a, parent);
  b = find_first(b, parent);
  const Joined<Index> joined = {a < b ? a : b, a < b ? b : a};
  parent(joined.from) = joined.into;
  return joined;
}

}  // namespace pyws
