// text_table.h: columns on a terminal. Values; no threads.
#pragma once

#include <string>
#include <vector>

namespace filer::bench {

using TextRows = std::vector<std::vector<std::string>>;

// Of every column, in characters.
std::vector<std::size_t> WidthsOfText(const TextRows& rows);
// A line per row: the first column to the left, the others to the right.
std::string AlignText(const TextRows& rows);

}  // namespace filer::bench
