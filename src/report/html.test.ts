import { expect, test } from "vitest"
import { dataTable, type Html, html, image, page, section } from "./html.ts"

test("values are escaped, pieces of HTML are not, lists are joined, and nothing is nothing", () => {
  const name = `<b>"cat" & 'dog'</b>`
  expect(html`<p title="${name}">${name}</p>`.text).toBe(
    '<p title="&lt;b&gt;&quot;cat&quot; &amp; &#39;dog&#39;&lt;/b&gt;">&lt;b&gt;&quot;cat&quot; &amp; &#39;dog&#39;&lt;/b&gt;</p>',
  )
  expect(html`${[html`<i>${1}</i>`, "<"]}${null}${undefined}${false}${0}`.text).toBe("<i>1</i>&lt;0")
  expect(html`${{ text: "<b>" } as Html}`.text).toBe("[object Object]") // looks like Html, and is somebody's JSON
})

test("a table has its head, row headings, and numbers to the right", () => {
  const { text } = dataTable({ head: ["class", "IoU", "note"], rows: [["cat", 51.2, "a<b"]], words: [0, 2] })
  expect(text).toContain('<th scope="row">cat</th><td class="number">51.2</td><td>a&lt;b</td>')
  expect(text).not.toContain("<caption>")
})

test("a page stands alone: no address but its own pictures", async () => {
  const picture = await image({ width: 1, height: 1, data: Uint8Array.of(255, 0, 0) }, { alt: "red", lossless: true })
  const text = page({ title: "A & B", lead: "what", sections: [section("Per class: IoU", picture)] })
  expect(text).toContain("<title>A &amp; B</title>")
  expect(text).toContain('<section id="per-class-iou"><h2>Per class: IoU</h2><img src="data:image/webp;base64,')
  expect(text.match(/(?:src|href)="(?!data:)/g)).toBeNull()
  expect(text).not.toMatch(/https?:\/\/(?!jfly)/)
})
