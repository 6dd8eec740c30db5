// acl.h: lists as Ganesha's NFSv4 entries, and back. Pure functions.
#pragma once

#include <vector>

#include "base/result.h"
#include "fsal/engine/acl.h"
#include "fsal/ganesha/ganesha_headers.h"

namespace filer::ganesha {

// No list, or one without entries, takes the list away: Ganesha has one word for both. Errors:
// kNotSupported for AUDIT and ALARM (RFC 7530, 6.2.1.1: nobody here would act on them), for flags
// that are not NFSv4's and for special names that the engine does not know.
Result<engine::Acl> ToEngineAcl(const fsal_acl_t* from);

// `acl` is of kind kNfs4. Ganesha's core decides by them, so each right must be named as it is
// stored.
std::vector<fsal_ace_t> ToFsalAces(const engine::Acl& acl);

}  // namespace filer::ganesha
