{
  "variables": {
    "node_kvm_sources": [
      "native/addon.cc",
      "native/argument.cc",
      "native/bus_error.cc",
      "native/fd.cc",
      "native/guarded.cc",
      "native/host_file.cc",
      "native/ioctl.cc",
      "native/mapping.cc",
      "native/region.cc",
      "native/watch.cc",
      "native/window.cc",
    ],
  },
}
