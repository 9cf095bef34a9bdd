/** Small samples of all formats that `cpuid` does not print, each with the name of its format. */
import type { CpuidFormatName } from "../../../../lib/cpuid/formats/index.ts";

/** Formats 32 bits as a Firecracker bitmap. */
const bitmap = (value: number): string => `0b${value.toString(2).padStart(32, "0")}`;

const modifiers = (values: readonly number[]): readonly object[] =>
  ["eax", "ebx", "ecx", "edx"].map((register, i) => ({ register, bitmap: bitmap(values[i] ?? 0) }));

/** The members of a fingerprint's template, which sets every bit. */
const fullTemplate = {
  kvm_capabilities: [],
  cpuid_modifiers: [
    {
      leaf: "0x0",
      subleaf: "0x0",
      flags: 0,
      modifiers: modifiers([7, 0x756e6547, 0x6c65746e, 0x49656e69]),
    },
    { leaf: "0x7", subleaf: "0x0", flags: 1, modifiers: modifiers([0, 0x21, 0, 0]) },
  ],
  msr_modifiers: [{ addr: "0x10a", bitmap: `0b${"0".repeat(63)}1` }],
};

/** The dump formats that the tests of lossless and damaged files write. */
type DumpName =
  | "json"
  | "raw"
  | "cpuid-r"
  | "aida64"
  | "kcpuid"
  | "kvm"
  | "libcpuid"
  | "dev-cpu"
  | "c";

/** The name of a format with a sample in this file. */
export type SampleName = Exclude<CpuidFormatName, DumpName | "quoted-mail">;

/** One sample file for each format. */
export const SAMPLES: Readonly<Record<SampleName, string>> = {
  "firecracker-template": `{
  "kvm_capabilities": ["171", "!56"],
  "cpuid_modifiers": [
    {
      "leaf": "0x7",
      "subleaf": "0x0",
      "flags": 1,
      "modifiers": [{ "register": "ebx", "bitmap": "0b1xxx_0xxxxx" }]
    }
  ],
  "msr_modifiers": [{ "addr": "0x10a", "bitmap": "0b0x1" }]
}
`,
  "firecracker-fingerprint": JSON.stringify(
    { kernel_version: "6.1.1", guest_cpu_config: fullTemplate },
    null,
    1,
  ),
  "libvirt-cpudata": `<cpudata arch='x86'>
  <cpuid eax_in='0x00000000' ecx_in='0x00' eax='0x00000007' ebx='0x756e6547' ecx='0x6c65746e' edx='0x49656e69'/>
  <cpuid eax_in='0x00000007' ecx_in='0x00' eax='0x00000000' ebx='0x00000021' ecx='0x00000000' edx='0x00000000'/>
  <msr index='0x10a' edx='0x00000001' eax='0x00000002'/>
</cpudata>
`,
  "libvirt-cpu": `<domain type='kvm'>
  <cpu mode='custom' match='exact' check='partial'>
    <model fallback='forbid'>Skylake-Server</model>
    <vendor>Intel</vendor>
    <topology sockets='1' cores='4' threads='2'/>
    <feature policy='require' name='avx2'/>
    <feature policy='optional' name='pku'/>
    <feature policy='disable' name='rtm'/>
  </cpu>
</domain>
`,
  "qemu-cpu": "qemu-system-x86_64 -enable-kvm -cpu Skylake-Server-v4,+avx2,-rtm,level=0xd -m 512\n",
  "qemu-qmp": `{"return": {"model": {"name": "base", "props": {"avx2": true, "rtm": false, "level": 13, "vendor": "GenuineIntel", "check": true}}}}
`,
  cpuinfo: `processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: A CPU @ 2.00GHz
flags\t\t: fpu vme avx2
address sizes\t: 46 bits physical, 48 bits virtual
power management:

`,
  "xen-cpuid": `name = "guest"
cpuid = [ # a mask
  "0x7,0x0:ebx=1xxxxxxxxxxxxxxxxxxxxxxxxx0xxkxs",
  '0x1:ecx=0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx,edx=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx1'
]
memory = 512
`,
  "xen-features": `cpuid = "host,tm=0,sse3=1,aes=k,family=0x6"\n`,
  "cloud-hypervisor": `{
  "adjustments": [
    [
      { "leaf": "0x7", "sub_leaf": { "start": "0x0", "end": "0x1" }, "register": "EBX" },
      { "replacements": "0x20", "mask": "0xff" }
    ]
  ]
}
`,
  "cpuid-queries": `dtrace: script 'cpuid-queries.d' matched 1 probe
CPUID query: leaf/subleaf 0x00000000/0x00000000, returns rax = 0x00000007, rbx = 0x756e6547, rcx = 0x6c65746e, rdx = 0x49656e69
CPUID query: leaf/subleaf 0x00000007/0x00000000, returns rax = 0x00000000, rbx = 0x00000021, rcx = 0x00000000, rdx = 0x00000000
CPUID query: leaf/subleaf 0x00000007/0x00000000, returns rax = 0x00000000, rbx = 0x00000021, rcx = 0x00000000, rdx = 0x00000000
`,
  "virtualbox-log": `00:00:00.154756 ************************ CPUID dump *************************
00:00:00.154941          Raw Standard CPUID Leaves
00:00:00.154942      Leaf/sub-leaf  eax      ebx      ecx      edx
00:00:00.154942 Gst: 00000000/0000  00000007 756e6547 6c65746e 49656e69
00:00:00.154943 Hst:                0000000d 756e6547 6c65746e 49656e69
00:00:00.154944 Gst: 00000007/0000  00000000 00000021 00000000 00000000
00:00:00.154945 Hst:                00000000 00000029 00000000 00000000
`,
  "git-lfs": `version https://git-lfs.github.com/spec/v1
oid sha256:${"4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"}
size 12345
`,
};
