/** Memory and open files of the processes over time, and whether they grew. */

export interface Sample {
  readonly process: string
  readonly pid: number
  /** Milliseconds since the start of the soak. */
  readonly atMs: number
  readonly residentBytes: number
  /** All but those of blobs. */
  readonly openFiles: number
  /** Published blobs, which a site keeps open up to a number of its own. */
  readonly openBlobs: number
}

export interface Bounds {
  /** From a process's first sample to the one that is what it has warmed up to. */
  readonly warmUpMs: number
  /** What it may have grown by since then. */
  readonly growthBytes: number
  /** What it may have at the end, however short it has run. */
  readonly residentBytes: number
  /** What may be open at the end, when its clients have left. */
  readonly openFiles: number
  readonly openBlobs: number
}

export interface Flatness {
  /** What grew beyond its bound or has ended by itself, in words; empty: all is flat. */
  readonly faults: readonly string[]
  /** A line for each process: from what to what. */
  readonly lines: readonly string[]
}

const MIB = 1024 * 1024

/** `atEnd`: samples of the quiet after the clients. */
export function judgeFlatness(
  samples: readonly Sample[],
  atEnd: readonly Sample[],
  bounds: Readonly<Record<string, Bounds>>,
): Flatness {
  const faults: string[] = []
  const lines: string[] = []
  for (const process of Object.keys(bounds)) {
    if (!atEnd.some((last) => last.process === process)) faults.push(`${process} does not run at the end`)
  }
  for (const last of atEnd) {
    const bound = bounds[last.process]
    if (!bound) continue
    const mine = samples.filter(({ pid, process }) => pid === last.pid && process === last.process)
    const bornMs = mine[0]?.atMs ?? last.atMs
    const warm = mine.filter(({ atMs }) => atMs - bornMs >= bound.warmUpMs)
    const baseline = warm[0]
    const grown =
      baseline && last.atMs > baseline.atMs ? last.residentBytes - baseline.residentBytes : undefined
    const was = baseline ? `${described(baseline)} when warm` : 'not yet warm'
    lines.push(`${last.process}: ${was}, ${described(last)} at the end`)
    if (grown !== undefined && grown > bound.growthBytes) {
      faults.push(
        `${last.process} grew by ${mebibytes(grown)} of memory (bound ${mebibytes(bound.growthBytes)})`,
      )
    }
    if (last.residentBytes > bound.residentBytes) {
      faults.push(
        `${last.process} has ${mebibytes(last.residentBytes)} of memory (bound ${mebibytes(bound.residentBytes)})`,
      )
    }
    if (last.openFiles > bound.openFiles) {
      faults.push(`${last.process} has ${last.openFiles} files open (bound ${bound.openFiles})`)
    }
    if (last.openBlobs > bound.openBlobs) {
      faults.push(`${last.process} has ${last.openBlobs} blobs open (bound ${bound.openBlobs})`)
    }
  }
  return { faults, lines }
}

function described({ residentBytes, openFiles, openBlobs }: Sample): string {
  const blobs = openBlobs > 0 ? ` (and ${openBlobs} blobs)` : ''
  return `${mebibytes(residentBytes)} and ${openFiles} files${blobs}`
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / MIB)} MiB`
}
