{
  # What `npm install` builds. native/CMakeLists.txt builds the same list of sources with
  # sanitizers or for clang-tidy; native/sources.gypi is that list.
  "includes": ["native/sources.gypi"],
  "targets": [
    {
      "target_name": "node_kvm",
      "sources": ["<@(node_kvm_sources)"],
      "dependencies": ["<!(node -p \"require('node-addon-api').targets\"):node_addon_api"],
      # Node-API 8 is what Node 20.19 to 26 share: one binary serves them all.
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti"],
      "cflags_cc": ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-fno-exceptions"],
      # Node unloads an addon with the last environment that has it; a signal handler must stay.
      "ldflags": ["-Wl,-z,nodelete"],
    }
  ],
}
