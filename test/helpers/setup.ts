/** Runs before every file of the suite: the matchers, and the lie if one is to be told. */
import "./matchers.ts";
import { tellLie } from "./lies.ts";

const lie = process.env["NODE_KVM_LIE"];
if (lie !== undefined) tellLie(lie);
