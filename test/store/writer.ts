/**
 * A process of its own that changes a store as fast as it can and says on standard output, one line each, what has
 * resolved: `tag <tag> <digest>`, `blob <digest>`, `hide <tag> <digest>`, `doubt <tag>`,
 * `expire <digest>` (of a manifest), `drop` (of the mark of completeness). Made to be killed or traced. With
 * an end, it also plays another registry that syncs nothing, and says so before: `foreign <digest>`.
 * Arguments: folder, seed, and after how many rounds to end (default: never).
 */
import { mkdirSync, writeFileSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import pino from 'pino'
import { createMetrics } from '../../src/metrics.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { linkEntry } from '../../src/store/paths.ts'
import { openStore } from '../../src/store/store.ts'
import { contentBytes, randomContent } from '../support/content.ts'
import { nameOf, tagOf } from './store-fixture.ts'

const [root = '', seed = '', rounds = 'Infinity'] = process.argv.slice(2)
const store = await openStore(
  root,
  { minFreeFraction: 0 },
  { log: pino({ level: 'silent' }), metrics: createMetrics() },
)
const { blobs, index, holdings } = store
const name = nameOf('team/app')

for (let round = 0; round < Number(rounds); round++) {
  await Promise.all([publishSpool(round), tagAndHide(round)])
  if (rounds !== 'Infinity') await adopt(round)
}
await store.close()

function say(line: string): void {
  writeSync(1, `${line}\n`)
}

async function publishSpool(round: number): Promise<void> {
  const content = await randomContent(1 + ((round * 7919) % 200_000), { seed: `${seed} layer ${round}` })
  const spool = join(store.paths.spools, `${process.pid}-${round}`)
  writeFileSync(spool, await contentBytes(content))
  await blobs.publish(spool, content.digest)
  await index.putLink(name, 'layer', content.digest, index.mark())
  say(`blob ${content.digest}`)
}

/** What Distribution does with a pushed layer, which we then confirm. */
async function adopt(round: number): Promise<void> {
  const bytes = Buffer.from(`${seed} foreign ${round}`)
  const digest = digestOf(bytes)
  say(`foreign ${digest}`)
  for (const [path, content] of [
    [store.paths.blob(digest), bytes],
    [store.paths.link(name, linkEntry('layer', digest)), digest],
  ] as const) {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, content)
  }
  await index.putLink(name, 'layer', digest, index.mark())
  say(`blob ${digest}`)
}

async function tagAndHide(round: number): Promise<void> {
  const tag = tagOf(`t${round % 5}`)
  const digest = await link(`${seed} manifest ${round}`, round % 2 ? 'sha512' : 'sha256')
  await index.putTag(name, tag, digest, index.mark())
  say(`tag ${tag} ${digest}`)
  if (round % 4 === 1) {
    await index.doubtTag(name, tag)
    say(`doubt ${tag}`)
  }
  if (round % 4 === 3) {
    await index.expireLink(name, 'manifest', digest)
    say(`expire ${digest}`)
    await holdings.markComplete(name, index.mark())
    await holdings.dropComplete(name)
    say('drop')
  }
  if (round % 4 === 2) {
    await index.hideLink(name, 'manifest', digest)
    say(`hide ${tag} ${digest}`)
  }
}

async function link(text: string, algorithm: 'sha256' | 'sha512'): Promise<Digest> {
  const bytes = Buffer.from(text.repeat(50))
  const digest = digestOf(bytes, algorithm)
  await blobs.write(digest, bytes)
  await index.putLink(name, 'manifest', digest, index.mark())
  return digest
}
