/** Types of calls.js, for the house test that compares it with the addon. */
interface Failing {
  readonly form: "errno" | "returned" | "negated";
  readonly errors: readonly number[];
}
export const FAILING: Readonly<Record<string, Failing>>;
export const UNFAILING: Readonly<Record<string, { readonly reason: string }>>;
