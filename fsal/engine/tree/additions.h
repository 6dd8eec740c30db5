// additions.h: Transaction::Add inside the store. The log and the tree know values only: the record
// has a value of zeroes for each sum, into which the result goes once the store's lock is held and
// the commit is certain. So a replay sets what the commit has set, however often it happens, and
// two threads never lose each other's part.
#pragma once

#include <boost/container/small_vector.hpp>
#include <string>
#include <vector>

#include "base/endian.h"
#include "fsal/engine/tree/node_tree.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

class Additions {
 public:
  // Of the transaction, which must outlive it.
  explicit Additions(const Transaction& transaction);
  Additions(const Additions&) = delete;
  Additions& operator=(const Additions&) = delete;

  // Appends a pair for each to the record of the transaction, behind its changes. Errors:
  // kInvalidArgument, kTooBig.
  static Result<void> Encode(const Transaction& transaction, std::string& record);
  // The changes that they are. Their values are here.
  void AppendChanges(std::vector<TreeChange>& changes) const;
  // Under the store's lock, after Prepare: the sums go into the changes and into `record`, which
  // Encode has been through. Errors: kCorrupt.
  Result<void> Settle(const NodeTree& tree, std::string& record);

 private:
  struct Sums {
    le64 sums[kSums];
  };
  static_assert(DiskStruct<Sums>);
  struct Place {
    const Transaction::Addition* addition;
    std::size_t value_at;  // in the record
    Sums value;
  };
  boost::container::small_vector<Place, 4> places_;  // does not move once it is made
};

}  // namespace filer::engine
