/** A hundred clients of every speed on blobs of a gibibyte: the process stays small (law 6). */
import type { GeoRegistry } from '../support/geo-registry.ts'
import { startLink } from '../support/link.ts'
import { describeMemory, watchMemory } from './memory-watch.ts'
import { read } from './readers.ts'
import { absolute, type Row } from './report.ts'
import { clientAddress, getBlob, LONG_LINE, MIB, type Scene } from './scene.ts'

const CLIENTS = 100
const BLOBS = 4
const SIZE_BYTES = 1024 * MIB
const FOR_MS = 60_000
const SLOWEST_BYTES_PER_SECOND = 64 * 1024
const FASTEST_BYTES_PER_SECOND = 64 * MIB
const BOUND_BYTES = 256 * MIB

export async function measureMemory(scene: Scene): Promise<Row[]> {
  const rows: Row[] = []
  {
    await using site = await scene.startSite()
    const requests = await Promise.all(blobs(scene))
    await read(requests.map((request) => ({ url: site.url, requests: [request] })))
    rows.push(await crowd(scene, site, 'warm'))
  }
  // At the line's speed the four are being filled most of the time.
  await using link = await startLink({ target: scene.primary.url, ...LONG_LINE })
  await using site = await scene.startSite({ primary: link.url })
  rows.push(await crowd(scene, site, 'cold'))
  return rows
}

async function crowd(scene: Scene, site: GeoRegistry, state: string): Promise<Row> {
  const requests = await Promise.all(blobs(scene))
  const step = (FASTEST_BYTES_PER_SECOND / SLOWEST_BYTES_PER_SECOND) ** (1 / (CLIENTS - 1))
  const plans = Array.from({ length: CLIENTS }, (_, client) => ({
    url: site.url,
    localAddress: clientAddress(client),
    requests: requests.slice(client % BLOBS, (client % BLOBS) + 1),
    bytesPerSecond: SLOWEST_BYTES_PER_SECOND * step ** client,
    repeatForMs: FOR_MS,
  }))
  const memory = await watchMemory(site, () => read(plans))
  return absolute(
    `memory, ${CLIENTS} clients at 64 KiB/s to 64 MiB/s on ${BLOBS} ${state} blobs of 1 GiB for 60 s`,
    describeMemory(memory),
    '< 256 MiB and flat',
    memory.peakBytes < BOUND_BYTES && memory.flat,
  )
}

function blobs(scene: Scene) {
  return Array.from({ length: BLOBS }, async (_, index) =>
    getBlob(scene, await scene.blob(SIZE_BYTES, index)),
  )
}
