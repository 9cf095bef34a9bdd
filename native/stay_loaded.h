// Keeps the addon in memory for good: Node unloads one with the last environment that has it, but a
// signal handler must stay.
#pragma once

namespace node_kvm {

void StayLoaded();

}  // namespace node_kvm
