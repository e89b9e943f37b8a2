/**
 * A process that fills the filesystem it is given and says as one line of JSON what the store did about it. Argument:
 * a folder on a small filesystem of its own.
 */
import { readdirSync, rmSync, statfsSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import pino from 'pino'
import { createMetrics } from '../../src/metrics.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { StoreError } from '../../src/store/blob-store.ts'
import { openStore } from '../../src/store/store.ts'
import { nameOf, putBlob, putManifest, tagOf } from './store-fixture.ts'

const [root = ''] = process.argv.slice(2)
const name = nameOf('team/app')
const metrics = createMetrics()
const store = await openStore(root, {}, { log: pino({ level: 'silent' }), metrics })
const { blobs, index, paths } = store

const tagged = await putManifest(store, name, 'held before', tagOf('latest'))
const unlinked = await putBlob(store, 'not linked before')
const hadRoom = await blobs.hasRoom()

const large = Buffer.alloc(64 * 1024 * 1024, 'x')
const largeFailure = await failureOf(blobs.write(digestOf(large), large))
const leftAfterLarge = readdirSync(paths.incoming)

const filler = join(root, 'filler')
try {
  for (;;) writeFileSync(filler, Buffer.alloc(4096), { flag: 'a' })
} catch {
  // Full to the last page, which is what the filler is for.
}
const free = statfsSync(root).bavail
const linkFailure = await failureOf(index.putLink(name, 'layer', unlinked, index.mark()))
const tagFailure = await failureOf(index.putTag(name, tagOf('new'), tagged, index.mark()))
const whenFull = {
  project: await index.identify(name, 7, 1000),
  otherProject: await index.identify(name, 8, 999),
  tag: (await index.tag(name, tagOf('latest')))?.digest === tagged,
  manifest: (await blobs.read(tagged, 100))?.toString(),
  link: await index.link(name, 'layer', unlinked),
  newTag: await index.tag(name, tagOf('new')),
  left: readdirSync(paths.incoming),
}

rmSync(filler)
const afterwards = [
  await index.putLink(name, 'layer', unlinked, index.mark()),
  await index.putTag(name, tagOf('new'), tagged, index.mark()),
]
const counted = (await metrics.storeErrors.get()).values
writeSync(
  1,
  JSON.stringify({
    hadRoom,
    largeFailure,
    leftAfterLarge,
    free,
    linkFailure,
    tagFailure,
    whenFull,
    afterwards,
    counted,
  }),
)
await store.close()

async function failureOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'none'
  } catch (error) {
    return error instanceof StoreError ? error.kind : String(error)
  }
}
