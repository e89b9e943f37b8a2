/** A crowd on one cold blob: the primary is read once (law 7). */
import type { Content } from '../support/content.ts'
import { startLink } from '../support/link.ts'
import type { Plan } from './reader.ts'
import { read } from './readers.ts'
import { mebibytes, type Row } from './report.ts'
import { clientAddress, getBlob, getManifest, LONG_LINE, MIB, type Scene } from './scene.ts'

const CLIENTS = 100
const SIZE_BYTES = 256 * MIB
const CHUNK_BYTES = 32 * MIB
/** Of one client that reads by ranges, besides the one it asked `bytes=0-` on. */
const CHUNK_CONNECTIONS = 2
/** No other row pulls this one. */
const INDEX = 100

export async function measureOneFetch(scene: Scene): Promise<Row[]> {
  await using link = await startLink({ target: scene.primary.url, ...LONG_LINE })
  await using site = await scene.startSite({ primary: link.url })
  const blob = await scene.blob(SIZE_BYTES, INDEX)
  await read([{ url: site.url, requests: [getManifest(scene)] }])
  const before = link.counts().down
  const plans = Array.from({ length: CLIENTS }, (_, client) =>
    client % 2 === 0 ? whole(scene, site.url, blob, client) : byRanges(scene, site.url, blob, client),
  )
  await read(plans)
  const ratio = (link.counts().down - before) / SIZE_BYTES
  return [
    {
      work: `${CLIENTS} clients at once on one cold blob of ${mebibytes(SIZE_BYTES)}, half by ranges`,
      geoRegistry: `${mebibytes(ratio * SIZE_BYTES)} from the primary`,
      against: `blob ${mebibytes(SIZE_BYTES)}`,
      ratio: `${ratio.toFixed(2)} ×`,
      bound: '1.00 ×',
      met: ratio.toFixed(2) === '1.00',
    },
  ]
}

function whole(scene: Scene, url: string, blob: Content, client: number): Plan {
  return { url, localAddress: clientAddress(client), requests: [getBlob(scene, blob)] }
}

/**
 * As containerd does: the whole is asked for, and once that is answered the first chunk is taken of it and the others
 * come over further connections.
 */
function byRanges(scene: Scene, url: string, blob: Content, client: number): Plan {
  const { path, headers } = getBlob(scene, blob)
  const localAddress = clientAddress(client)
  const first = { path, headers: { ...headers, range: 'bytes=0-' }, takeBytes: CHUNK_BYTES }
  const rest = Array.from({ length: CHUNK_CONNECTIONS }, (_, connection) => {
    const requests = []
    for (let chunk = 1 + connection; chunk * CHUNK_BYTES < SIZE_BYTES; chunk += CHUNK_CONNECTIONS) {
      const range = `bytes=${chunk * CHUNK_BYTES}-${Math.min((chunk + 1) * CHUNK_BYTES, SIZE_BYTES) - 1}`
      requests.push({ path, headers: { ...headers, range } })
    }
    return { url, localAddress, requests }
  })
  return { url, localAddress, requests: [first], followedBy: rest }
}
