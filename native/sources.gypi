{
  "variables": {
    "node_kvm_sources": [
      "native/addon.cc",
      "native/bus_error.cc",
      "native/fd.cc",
      "native/ioctl.cc",
      "native/mapping.cc",
      "native/region.cc",
      "native/window.cc",
    ],
  },
}
