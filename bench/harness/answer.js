// The process of one question: `node answer.js QUESTION YARDSTICK ROUNDS` measures and sends the tables to its parent.
import { vendorModule } from "node-kvm";
import { verdict } from "./limits.js";
import { race } from "./rounds.js";
import { Stage } from "./stage.js";

const [file, yardstick, rounds, emulated] = process.argv.slice(2);
const { question } = await import(file);
const isEmulated = emulated === "emulated";

/** Measures one setting of the question. @param {string} ring */
async function table(ring) {
  const stage = new Stage({ guest: question.guest, ring, yardstick });
  try {
    if (question.values !== undefined) return { values: await question.values(stage) };
    return { rows: await rowsOf(stage) };
  } finally {
    await stage.close();
  }
}

/** @param {Stage} stage */
async function rowsOf(stage) {
  const { rows } = question;
  const contenders = [];
  for (const row of rows) contenders.push(await stage.contender(row, operations(row)));
  const answers = await race(contenders, Number(rounds));
  const found = new Map(rows.map((row, i) => [row.what, answers[i]]));
  return rows.map((row) => report(row, found));
}

const operations = (row) => row.operations ?? question.operations;

/** Compares each row with the first row, or with the row that it names. */
function report(row, found) {
  const { what, limit } = row;
  const side = row.command === undefined ? "JavaScript" : "C";
  const said = { what, side, operations: operations(row), ...(limit && { limit }) };
  const answer = found.get(what);
  if (answer.figure === undefined) return { ...said, ...answer };
  const against = row.against ?? question.rows[0].what;
  const base = found.get(against)?.figure;
  const { figure } = answer;
  const compared = base && {
    ratio: figure.median / base.median,
    over: figure.median - base.median,
  };
  const judged = limit && { verdict: verdict(limit, figure, base, isEmulated) };
  const each = answer.each.map((ns) => Math.round(ns * 10) / 10);
  return { ...said, ...figure, each, against, ...compared, ...judged };
}

const tables = [];
for (const ring of question.rings ?? [undefined]) tables.push({ ring, ...(await table(ring)) });
const { name, asks, note } = question;
process.send({ name, asks, note, vendor: vendorModule(), tables });
process.disconnect();
