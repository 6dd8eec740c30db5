// quota_methods.h: limits and usage of users, groups and projects. "fileset" is the volume's first
// one where it is not given.
#pragma once

#include <vector>

#include "fsal/engine-control/control.h"

namespace filer::control {

// quota.*
const std::vector<ControlMethod>& QuotaMethods();

}  // namespace filer::control
