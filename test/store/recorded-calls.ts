/**
 * File-system calls of a process as `strace -f -y` wrote them down, in the order in which they took effect at the
 * earliest (changes: when they were begun) and at the latest (syncs: when they had returned).
 */
export type RecordedCall =
  | { readonly kind: 'create'; readonly path: string }
  | { readonly kind: 'write'; readonly path: string; readonly text: string; readonly sizeBytes: number }
  | { readonly kind: 'folder'; readonly path: string }
  | { readonly kind: 'rename'; readonly path: string; readonly to: string }
  | { readonly kind: 'remove'; readonly path: string }
  /** `sync-begins` says what a later `sync` of the same token covers. */
  | { readonly kind: 'sync-begins' | 'sync'; readonly path: string; readonly token: number }
  /** A line the process wrote to its standard output. */
  | { readonly kind: 'said'; readonly line: string }

/** What strace must be told to record. */
export const STRACE_OPTIONS: readonly string[] = [
  '-f',
  '-y',
  '-s',
  '200',
  '-e',
  'trace=openat,write,pwrite64,writev,pwritev,pwritev2,rename,renameat,renameat2,mkdir,mkdirat,fsync,fdatasync,unlink,unlinkat,rmdir,ftruncate,link,linkat,symlink',
]

interface Line {
  readonly call: string
  /** Undefined until the call has returned. */
  readonly result: string | undefined
  readonly token: number
  readonly phase: 'begins' | 'ends' | 'whole'
}

/** Only calls below `root`, and standard output. Throws on a call there that it cannot place. */
export function parseRecordedCalls(trace: string, root: string): RecordedCall[] {
  const isBelow = (path: string) => path === root || path.startsWith(`${root}/`)
  return linesOf(trace).flatMap((line) => {
    const calls = recordedCalls(line)
    if (!calls && line.call.includes(root)) throw new Error(`this test knows no such call: ${line.call}`)
    return (calls ?? []).filter((call) => call.kind === 'said' || isBelow(call.path))
  })
}

/** Puts `<unfinished ...>` and `<... resumed>` together; a failed call is none. */
function linesOf(trace: string): Line[] {
  const lines: Line[] = []
  const open = new Map<string, { readonly index: number; readonly call: string; readonly token: number }>()
  for (const [token, text] of trace.split('\n').entries()) {
    const [, pid = '', rest = ''] = /^(\d+)\s+(.*)$/.exec(text) ?? []
    const begun = /^(.*) <unfinished \.\.\.>$/.exec(rest)
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest)
    if (begun) {
      open.set(pid, { index: lines.length, call: begun[1] ?? '', token })
      lines.push({ call: begun[1] ?? '', result: undefined, token, phase: 'begins' })
    } else if (resumed) {
      const first = open.get(pid)
      if (!first) continue
      open.delete(pid)
      const { call, result } = split(first.call + (resumed[1] ?? ''))
      const failed = result.startsWith('-1')
      lines[first.index] = { call: failed ? '' : call, result, token: first.token, phase: 'begins' }
      if (!failed) lines.push({ call, result, token: first.token, phase: 'ends' })
    } else {
      const { call, result } = split(rest)
      if (!result.startsWith('-1')) lines.push({ call, result, token, phase: 'whole' })
    }
  }
  return lines
}

function split(text: string): { call: string; result: string } {
  const at = text.lastIndexOf(' = ')
  return at === -1 ? { call: '', result: '-1' } : { call: text.slice(0, at), result: text.slice(at + 3) }
}

function recordedCalls({ call, result, token, phase }: Line): RecordedCall[] | undefined {
  const name = /^\w+/.exec(call)?.[0] ?? ''
  const quoted = [...call.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map((match) => match[1] ?? '')
  const [first = '', second = ''] = quoted
  const fdPath = /^\w+\(\d+<([^>]*)>/.exec(call)?.[1] ?? ''
  if (name === 'fsync' || name === 'fdatasync') {
    const begins = { kind: 'sync-begins', path: fdPath, token } as const
    const ends = { kind: 'sync', path: fdPath, token } as const
    return phase === 'whole' ? [begins, ends] : [phase === 'begins' ? begins : ends]
  }
  if (phase === 'ends') return []
  switch (name) {
    case 'openat':
      return /O_CREAT/.test(call) ? [{ kind: 'create', path: first }] : []
    case 'write':
    case 'pwrite64':
      if (/^write\(1</.test(call)) {
        return first
          .split('\\n')
          .filter(Boolean)
          .map((line) => ({ kind: 'said', line }))
      }
      return [{ kind: 'write', path: fdPath, text: first, sizeBytes: Number(result) }]
    case 'mkdir':
      return [{ kind: 'folder', path: first }]
    case 'rename':
      return [{ kind: 'rename', path: first, to: second }]
    case 'unlink':
    case 'rmdir':
      return [{ kind: 'remove', path: first }]
    default:
      return undefined
  }
}
