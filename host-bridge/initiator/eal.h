// eal.h: what the other files here need to know of the EAL that InitEal (initiator.h) started.
#pragma once

namespace filer::bridge {

bool IsEalRunning() noexcept;
bool HasHugePages() noexcept;

}  // namespace filer::bridge
