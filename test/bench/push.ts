/** A push through the site against one straight to the primary, over the same long line. */
import { randomContent } from '../support/content.ts'
import { startLink } from '../support/link.ts'
import { median, takeTurns } from './measure.ts'
import { describeMemory, type MemoryWatch, watchMemory } from './memory-watch.ts'
import { absolute, atMost, milliseconds, type Row } from './report.ts'
import { expectStatus, LONG_LINE, MIB, REPOSITORY, type Scene } from './scene.ts'

const ROUNDS = 3
const SIZE_BYTES = 1024 * MIB
const BOUNDS = { time: 1.05, memoryBytes: 256 * MIB }

export async function measurePush(scene: Scene): Promise<Row[]> {
  await using link = await startLink({ target: scene.primary.url, ...LONG_LINE })
  await using site = await scene.startSite({ primary: link.url })
  const watches: MemoryWatch[] = []
  const push = async (url: string, seed: string) => {
    await using api = scene.api(url)
    const content = await randomContent(SIZE_BYTES, { seed })
    const startedAtMs = performance.now()
    expectStatus(await api.pushBlob(REPOSITORY, content), 201)
    return performance.now() - startedAtMs
  }
  const times = await takeTurns(ROUNDS, {
    async site(round) {
      let time = Number.NaN
      watches.push(
        await watchMemory(site, async () => {
          time = await push(site.url, `push/site/${round}`)
        }),
      )
      return time
    },
    direct: (round) => push(link.url, `push/direct/${round}`),
  })
  const [ours, theirs] = [median(times.site), median(times.direct)]
  const work = 'push of 1 GiB, 100 MB/s and 20 ms each way'
  const figures = { work, geoRegistry: milliseconds(ours), against: `direct ${milliseconds(theirs)}` }
  const rows = [atMost(figures, ours / theirs, BOUNDS.time)]
  const last = watches.at(-1)
  if (last) {
    const met = last.peakBytes < BOUNDS.memoryBytes && last.flat
    rows.push(absolute(`${work}: memory`, describeMemory(last), '< 256 MiB and flat', met))
  }
  return rows
}
