/** Imports a CPU model from QEMU's reply to query-cpu-model-expansion. formats/qemu.ts reads the JSON. */
import { describe, quoted } from "../../options.ts";
import { resolveFeatures } from "../features.ts";
import type { CpuidFeatureList } from "../formats/dump.ts";
import { qemuQmp } from "../formats/qemu.ts";
import { DEFAULT_PHYSICAL_BITS, type ImportedCpuidModel, reachable } from "./imported.ts";

const LEAST_EXTENDED = 0x8000_0008;

/**
 * Reads QEMU's reply to query-cpu-model-expansion of type "full" for a named model. The reply contains all facts of the
 * model, even if QEMU runs without KVM.
 *
 * @param text - the JSON of the reply, or a log that contains the reply.
 * @throws TypeError for anything but a string; SyntaxError, with the place, for a fault, and for a missing property,
 *   such as `family` in a reply of type "static".
 */
export function importQemuModel(text: string): ImportedCpuidModel {
  const where = "importQemuModel()";
  if (typeof text !== "string") {
    throw new TypeError(`${where}: expected a string, got ${describe(text)}`);
  }
  const dump = qemuQmp.parse(new TextEncoder().encode(text));
  const [problem] = dump.problems;
  if (problem) {
    throw new SyntaxError(`${where}: ${problem.line}:${problem.column}: ${problem.message}`);
  }
  if (dump.kind !== "features") throw new SyntaxError(`${where}: there is no model`);
  return importQemuFeatures(where, dump.features);
}

/**
 * Makes a model from the features and the properties of QEMU's reply.
 *
 * @throws SyntaxError for a missing property.
 */
export function importQemuFeatures(where: string, features: CpuidFeatureList): ImportedCpuidModel {
  const { model: name = "", vendor, on } = features;
  const properties: Readonly<Record<string, string | undefined>> = features.properties;
  const read = (key: string, least: number, most: number): number => {
    const value = Number(properties[key] ?? Number.NaN);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    const given = properties[key] === undefined ? "is missing" : `is ${quoted(properties[key])}`;
    throw new SyntaxError(`${where}: ${key} of the model ${quoted(name)} ${given}`);
  };
  if (vendor === undefined || !/^[\x20-\x7e]{12}$/.test(vendor)) {
    throw new SyntaxError(`${where}: vendor of the model ${quoted(name)} is not twelve characters`);
  }
  const { on: found, unknown } = resolveFeatures({ on, off: [] }, "qemu");
  const maxLeaf = Math.max(1, read("level", 0, 0xffff));
  const maxExtended = Math.max(LEAST_EXTENDED, read("xlevel", 0, 0x8000_ffff));
  const signature = {
    family: read("family", 0, 270),
    model: read("model", 0, 255),
    stepping: read("stepping", 0, 15),
  };
  const bits = Number(properties["phys-bits"] ?? 0);
  const hasBits = bits >= 32 && bits <= 52;
  return Object.freeze({
    name,
    vendor,
    signature: Object.freeze(signature),
    maxLeaf,
    maxExtended,
    features: Object.freeze(
      reachable(
        found.map(({ name: own }) => own),
        maxLeaf,
        maxExtended,
      ),
    ),
    unknown: Object.freeze(unknown.map(({ name: own }) => own)),
    brand: (properties["model-id"] ?? "").replaceAll(/[^\x20-\x7e]/g, "").slice(0, 47),
    physicalBits: hasBits ? bits : DEFAULT_PHYSICAL_BITS,
    assumed: Object.freeze(hasBits ? [] : (["physicalBits"] as const)),
  });
}
