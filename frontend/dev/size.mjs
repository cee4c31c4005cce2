// Fails when what a browser must load first grows beyond its budget, or when the page has inline code.
import { readFile } from "node:fs/promises";
import { gzipSync, brotliCompressSync } from "node:zlib";

const BUDGET = 230_000;
const dist = new URL("../dist/", import.meta.url);
const page = await readFile(new URL("index.html", dist), "utf8");
const names = [...page.matchAll(/(?:src|href)="\/(assets\/[^"]+)"/g)].map((match) => match[1]);
let [gzip, brotli] = [0, 0];
for (const name of names) {
  const content = await readFile(new URL(name, dist));
  gzip += gzipSync(content, { level: 9 }).length;
  brotli += brotliCompressSync(content).length;
}
console.log(`${names.length} files, ${gzip} bytes gzip, ${brotli} bytes brotli, budget ${BUDGET} bytes gzip`);
const inline = /<script(?![^>]*\ssrc=)[^>]*>|<style|\son[a-z]+=|\sstyle=/i.test(page);
if (inline) console.log("index.html has inline code, which the policy forbids");
process.exitCode = gzip <= BUDGET && names.length > 0 && !inline ? 0 : 1;
