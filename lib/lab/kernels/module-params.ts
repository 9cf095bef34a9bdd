/** Parameters of the kernel's modules, which the lab passes when it loads a module. */
import { basename } from "node:path";
import { LabError } from "../error.ts";

/** A module's parameter with its value, such as `ignore_msrs=1` of `kvm`. */
export interface ModuleParam {
  /** The module's name, with `_` for `-`. */
  readonly module: string;
  /** The parameter as `insmod` expects it: `NAME=VALUE`. */
  readonly setting: string;
}

const PARAM = /^([\w-]{1,56})\.(\w{1,64}=[\w.:/+-]{1,128})$/;

/**
 * Parses a list of parameters: `kvm.ignore_msrs=1,kvm_amd.npt=0`.
 *
 * @returns the parameters; none for an empty text.
 * @throws {@link LabError} `ERR_LAB_MODULE` for a part that is not MODULE.NAME=VALUE, or that sets a parameter again.
 */
export function parseModuleParams(text: string): readonly ModuleParam[] {
  if (text === "") return [];
  const seen = new Set<string>();
  return text.split(",").map((part) => {
    const [, module = "", setting = ""] = PARAM.exec(part) ?? [];
    if (module === "") {
      throw wrong(
        `"${part}" is not a module's parameter; the form is MODULE.NAME=VALUE, as in kvm.ignore_msrs=1`,
      );
    }
    const name = `${module.replaceAll("-", "_")}.${setting.replace(/=.*/, "")}`;
    if (seen.has(name)) throw wrong(`${name} is set twice in "${text}"`);
    seen.add(name);
    return { module: module.replaceAll("-", "_"), setting };
  });
}

/** Writes a parameter as {@link parseModuleParams} reads it: `kvm.ignore_msrs=1`. */
export function formatModuleParam({ module, setting }: ModuleParam): string {
  return `${module}.${setting}`;
}

/**
 * Returns the lines of the loading order: the name of each module's file, followed by the module's parameters.
 *
 * @param files - the modules' files in the order of loading.
 * @throws {@link LabError} `ERR_LAB_MODULE` if a parameter belongs to a module that is not loaded.
 */
export function loadingLines(
  files: readonly string[],
  params: readonly ModuleParam[],
): readonly string[] {
  const names = files.map((file) => basename(file));
  const loaded = names.map((name) => name.replace(/\.ko$/, "").replaceAll("-", "_"));
  const other = params.find(({ module }) => !loaded.includes(module));
  if (other !== undefined) {
    throw wrong(
      `${formatModuleParam(other)} has no effect: this machine loads ${loaded.join(", ") || "no module"}`,
    );
  }
  return names.map((name, i) => {
    const own = params.filter(({ module }) => module === loaded[i]);
    return [name, ...own.map(({ setting }) => setting)].join(" ");
  });
}

/**
 * Checks that the kernel has used all parameters: a kernel ignores a parameter that a module does not have, and reports
 * it in its log.
 *
 * @throws {@link LabError} `ERR_LAB_MODULE` if a module does not have a parameter.
 */
export function refuseIgnoredParams(kernelLog: string, params: readonly ModuleParam[]): void {
  for (const { module, setting } of params) {
    const name = setting.replace(/=.*/, "");
    // kernel/module/main.c: unknown_module_param_cb
    if (kernelLog.includes(`${module}: unknown parameter '${name}' ignored`)) {
      throw wrong(`this kernel's module ${module} has no parameter ${name}`);
    }
  }
}

function wrong(sentence: string): LabError {
  return new LabError("ERR_LAB_MODULE", sentence);
}
