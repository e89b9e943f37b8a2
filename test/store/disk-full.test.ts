import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { runProgram } from '../support/process.ts'
import { tempFolder } from '../support/temp.ts'

const FILLER = join(import.meta.dirname, 'disk-filler.ts')

/**
 * Runs the filler on a tmpfs of 2 MiB in a mount namespace of its own, which ends with it; an ordinary user gets one
 * through a user namespace.
 */
async function fillDisk(folder: string): Promise<Record<string, unknown>> {
  const script = 'mount -t tmpfs -o size=2m geo-registry-test "$1" && exec "$2" "$3" "$1"'
  const namespaces = process.getuid?.() === 0 ? ['--mount'] : ['--user', '--map-root-user', '--mount']
  const command = ['sh', '-c', script, 'sh', folder, process.execPath, FILLER]
  const { stdout } = await runProgram('unshare', [...namespaces, ...command])
  return JSON.parse(stdout) as Record<string, unknown>
}

describe('a store on a disk that is full', () => {
  it('refuses what is new as full, leaves nothing half-written, and serves what it has', async () => {
    await using folder = await tempFolder('disk-full')

    const result = await fillDisk(folder.path)

    expect(result).toEqual({
      hadRoom: true,
      largeFailure: 'full',
      leftAfterLarge: [],
      free: 0,
      linkFailure: 'full',
      tagFailure: 'full',
      whenFull: { project: 'same', otherProject: 'older', tag: true, manifest: 'held before', left: [] },
      afterwards: [true, true],
      counted: [{ labels: { kind: 'full' }, value: 4 }],
    })
  })
})
