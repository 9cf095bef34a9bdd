/** Tests of the XML reader: its results, and the positions of the faults that it reports. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  escapeXml,
  parseXml,
  type XmlElement,
  xmlElements,
} from "../../../../lib/cpuid/formats/xml.ts";

const faults = (text: string, limits = {}): readonly string[] =>
  parseXml(text, limits).problems.map((p) => `${p.line}:${p.column} ${p.message}`);

/** Returns an element as nested arrays. */
const shape = (element: XmlElement | undefined): unknown =>
  element && [element.name, Object.fromEntries(element.attributes), ...element.children.map(shape)];

describe("parseXml", () => {
  test("reads elements, attributes in both quotes and text", () => {
    const text = `<?xml version='1.0'?>
<!-- c --><a x='1' y = "2">t<b z='&lt;&#65;&#x42;'/>u &amp; v<![CDATA[<&]]></a>
`;
    const { root, problems } = parseXml(text);
    expect(problems).toEqual([]);
    expect(shape(root)).toEqual(["a", { x: "1", y: "2" }, ["b", { z: "<AB" }]]);
    expect(root?.text).toBe("tu & v<&");
  });

  test("gives the line and column of each element", () => {
    const { root } = parseXml("\ufeff<a>\r\n  <b/>\r\n<c>\n </c></a>");
    const places = root && xmlElements(root).map((e) => `${e.name} ${e.line}:${e.column}`);
    expect(places).toEqual(["a 1:2", "b 2:3", "c 3:1"]);
  });

  test("treats the name of a member of Object.prototype as an ordinary name", () => {
    const { root } = parseXml("<__proto__ constructor='1' __proto__='2'/>");
    expect([...(root?.attributes ?? [])]).toEqual([
      ["constructor", "1"],
      ["__proto__", "2"],
    ]);
  });

  test.each([
    ["", "1:1 there is no element"],
    ["<a>", '1:4 the element "a" of line 1 is not closed'],
    ["<a>\n</b>", '2:1 the end tag is "b", but "a" of line 1 is open'],
    ["</a>", '1:1 the end tag "a" closes no element'],
    ["<a></a", "1:4 an end tag is not complete"],
    ["<a/><b/>", "1:5 there is a second root element"],
    ["<a/> x", "1:6 there is text outside of the root element"],
    ["<a", '1:1 the tag "a" is not closed'],
    ["<a x>", '1:4 the attribute "x" has no value in quotes'],
    ["<a x=1/>", '1:4 the attribute "x" has no value in quotes'],
    ["<a x='1/>", '1:4 the value of the attribute "x" is not closed'],
    ["<a x='<'/>", '1:4 the value of the attribute "x" is not closed'],
    ["<a x='1'y='2'/>", '1:9 the tag "a" has "y" in place of an attribute'],
    ["<a x='1' x='2'/>", '1:10 the attribute "x" is there twice'],
    ["<a ?/>", '1:4 the tag "a" has "?" in place of an attribute'],
    ["<a><1/></a>", '1:4 "<" begins no tag; write "&lt;"'],
    ["<a>&x;</a>", '1:4 "&x;" is not an entity of XML'],
    ["<a>&#0;</a>", '1:4 "&#0;" is not an entity of XML'],
    ["<a>&#xD800;</a>", '1:4 "&#xD800;" is not an entity of XML'],
    ["<a>&#99999999;</a>", '1:4 "&#99999999;" is not an entity of XML'],
    ["<a>&</a>", '1:4 "&" begins no entity; write "&amp;"'],
    ["<a>\0</a>", "1:4 the character U+0000 is not allowed in XML"],
    ["<!-- a", "1:1 the comment is not closed"],
    ["<a><!-- -- --></a>", '1:9 a comment may not contain "--"'],
    ["<a><![CDATA[", "1:4 the CDATA section is not closed"],
    ["<?xml ", "1:1 the XML declaration is not closed"],
    ["<a><?x", "1:4 the processing instruction is not closed"],
    [
      "<!DOCTYPE a [<!ENTITY b 'c'>]><a/>",
      "1:1 DOCTYPE is refused: this reader takes no definitions",
    ],
  ])("reports the position of the fault in %j", (text, fault) => {
    expect(faults(text)).toEqual([fault]);
  });

  test("omits an element whose tag has a fault, and keeps the other elements", () => {
    const { root } = parseXml("<a><b x='&y;'/><c/></a>");
    expect(shape(root)).toEqual(["a", {}, ["c", {}]]);
  });

  test("keeps the elements before a structural fault", () => {
    expect(shape(parseXml("<a><b x='1'/><c").root)).toEqual(["a", {}, ["b", { x: "1" }]]);
  });

  test("refuses files whose depth, elements or characters exceed the limits", () => {
    expect(faults("<a><b><c/></b></a>", { depth: 2 })).toEqual([
      "1:7 there are more than 2 elements inside each other",
    ]);
    expect(faults("<a><b/><b/></a>", { elements: 2 })).toEqual([
      "1:8 there are more than 2 elements",
    ]);
    expect(faults("<a/>", { characters: 3 })).toEqual([
      "0:1 the file has 4 characters; at most 3 are read",
    ]);
  });

  test("lists 100 faults, and the number of further faults", () => {
    const found = faults(`<a>${"&".repeat(10_000)}</a>`);
    expect(found).toHaveLength(101);
    expect(found.at(-1)).toBe("0:1 and 9900 more faults");
  });

  test("reads a million unclosed tags without a stack overflow", () => {
    const { problems } = parseXml("<a>".repeat(1_000_000));
    expect(problems).toHaveLength(1);
  });

  test("returns without an exception for any text", () => {
    const piece = fc.constantFrom(
      ...["<a", ">", "/>", "</a>", " x=", "'1'", '"', "&lt;", "&", "<!--", "-->"],
      ...["<![CDATA[", "]]>", "<?xml ", "?>", "<!DOCTYPE", "\n", "\0", "é", "\ud800"],
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const { root, problems } = parseXml(pieces.join(""));
        return root !== undefined || problems.length > 0;
      }),
    );
  });
});

describe("escapeXml", () => {
  test("writes text that parseXml reads back", () => {
    const printable = fc.string({ unit: fc.constantFrom("<", ">", "&", "'", '"', "a", ";", "é") });
    fc.assert(
      fc.property(printable, (text) => {
        const { root } = parseXml(`<a x='${escapeXml(text)}'>${escapeXml(text)}</a>`);
        expect([root?.attributes.get("x"), root?.text]).toEqual([text, text]);
      }),
    );
  });
});
