/** An image of a gibibyte over a long line on which one connection is slow: several at a time make up for it. */
import { startReplicatedSite } from '../e2e/replicated-site.ts'
import { randomContent } from '../support/content.ts'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { tagIsHere } from './replication-held.ts'
import { atLeast, megabytesPerSecond, type Row } from './report.ts'
import { expectStatus, MIB } from './scene.ts'

/** Milliseconds one way: 100 ms there and back. */
const LINE = { latencyMs: 50, connectionBytesPerSecond: 20e6 }
const SAMPLE_BYTES = 64 * MIB
const CASES = [
  { what: '4 layers of 256 MiB', layers: [256, 256, 256, 256] },
  { what: 'one layer of 1 GiB', layers: [1024] },
]
const BOUND = 4
const REPOSITORY = 'bench/copy'

export async function measureReplicationCopy(): Promise<Row[]> {
  const rows: Row[] = []
  for (const { what, layers } of CASES) {
    // A token of the kit's lasts five minutes, which is longer than one case takes.
    await using site = await startReplicatedSite({ repositories: [REPOSITORY] })
    site.link.shape(LINE)
    const image = await buildImage({ seed: what, layers: layers.map((size) => size * MIB), gzip: false })
    const sizeBytes = image.blobs.reduce((sum, blob) => sum + blob.sizeBytes, 0)

    const sample = await randomContent(SAMPLE_BYTES, { seed: what })
    expectStatus(await site.there.pushBlob(REPOSITORY, sample), 201)
    await using direct = await site.one.client({ [REPOSITORY]: ['pull'] }, site.link.url)
    const { status, firstByteMs, totalMs } = await direct.getBlob(REPOSITORY, sample.digest)
    expectStatus({ status }, 200)
    // As if one GET had brought it all: the way to the first byte is gone once.
    const oneMs = firstByteMs + (totalMs - firstByteMs) * (sizeBytes / SAMPLE_BYTES)

    await pushImage(site.there, REPOSITORY, 'latest', image)
    const startedAtMs = performance.now()
    await tagIsHere({ root: site.one.site.root, repository: REPOSITORY, tag: 'latest' }, image, 120_000)
    const oursMs = performance.now() - startedAtMs
    const rate = (ms: number) => megabytesPerSecond((sizeBytes / ms) * 1000)
    const figures = {
      work: `copy of 1 GiB, ${what}, 100 ms round trip and 20 MB/s per connection`,
      geoRegistry: rate(oursMs),
      against: `one connection ${rate(oneMs)}`,
    }
    rows.push(atLeast(figures, oneMs / oursMs, BOUND))
  }
  return rows
}
