/** Looks at memory and open files of every process of a soak, now and then. */
import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Sample } from './flatness.ts'
import type { World } from './world.ts'

export interface Sampling extends Disposable {
  readonly samples: readonly Sample[]
  now(): Promise<Sample[]>
}

const EVERY_MS = 2_000
/** Of a soak of many hours what processes had that have ended is let go, and then every other look. */
const KEPT = 20_000

export function startSampling({ pids }: Pick<World, 'pids'>, now: () => number): Sampling {
  const samples: Sample[] = []
  const look = async () => {
    const all = Object.entries(pids()).map(([process, pid]) => sampleOf(process, pid, now()))
    return (await Promise.all(all)).filter((sample) => sample !== undefined)
  }
  function keep(found: readonly Sample[]): void {
    samples.push(...found)
    if (samples.length <= KEPT) return
    const running = new Set(found.map(({ pid }) => pid))
    const left = samples.filter(({ pid }) => running.has(pid))
    samples.splice(
      0,
      samples.length,
      ...(left.length > KEPT / 2 ? left.filter((_, index) => index % 2) : left),
    )
  }
  const timer = setInterval(() => void look().then(keep), EVERY_MS)
  return {
    samples,
    now: look,
    [Symbol.dispose]: () => clearInterval(timer),
  }
}

/** Undefined: it has ended meanwhile. */
async function sampleOf(process: string, pid: number, atMs: number): Promise<Sample | undefined> {
  try {
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    const kib = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN)
    if (Number.isNaN(kib)) return undefined
    const targets = await openFilesOf(pid)
    const openBlobs = targets.filter((target) => BLOB.test(target)).length
    return {
      ...{ process, pid, atMs, openBlobs },
      residentBytes: kib * 1024,
      openFiles: targets.length - openBlobs,
    }
  } catch {
    return undefined
  }
}

/** The file of a published blob, which a site keeps open for the next reader. */
const BLOB = /\/blobs\/sha\d+\/.+\/data$/

async function openFilesOf(pid: number): Promise<string[]> {
  const folder = `/proc/${pid}/fd`
  const files = await readdir(folder)
  return await Promise.all(files.map((file) => readlink(join(folder, file)).catch(() => 'closed meanwhile')))
}
