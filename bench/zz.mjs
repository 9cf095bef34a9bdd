import { Kvm } from "node-kvm"; import { performance } from "node:perf_hooks";
const kvm=Kvm.open(); const vm=kvm.createVm(); const vcpu=vm.createVcpu(0); let s=0n;
const f=process.argv[2]==="set"?(r=>()=>vcpu.setRegs(r))(vcpu.getRegs()):()=>{s+=vcpu.getRegs().rax;};
for(let i=0;i<20000;i++) f(); const n=100000; const a=performance.now(); for(let i=0;i<n;i++) f(); console.log(((performance.now()-a)*1e3/n).toFixed(3),"us");
