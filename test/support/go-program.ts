/** Programs that Go builds from a module folder of ours: its `go.mod` pins the version, its `go.sum` the checksums. */
import { mkdir } from 'node:fs/promises'
import { basename, delimiter, join } from 'node:path'
import { runProgram } from './process.ts'

const CACHE = join(import.meta.dirname, '../../node_modules/.cache/geo-registry')

/**
 * Builds the package that the folder's `go.mod` requires; resolves with the binary's path. Go's own cache makes a second
 * build quick. `command`: `test -c` for a package that is its tests. Throws `ProgramError` when Go is not installed or the
 * module cannot be had.
 */
export async function buildGoProgram(
  moduleFolder: string,
  mainPackage: string,
  command: readonly string[] = ['build'],
): Promise<string> {
  await mkdir(CACHE, { recursive: true })
  const binary = join(CACHE, basename(moduleFolder))
  const go = ['go', ...command, '-mod=readonly', '-o', binary, mainPackage]
  await runProgram('nice', ['-n', '15', ...go], {
    cwd: moduleFolder,
    deadlineMs: 1_800_000, // cosign takes 10 minutes of two busy cores.
    env: inherited([
      'HOME',
      'PATH',
      'GOPATH',
      'GOCACHE',
      'GOMODCACHE',
      'GOPROXY',
      'GOSUMDB',
      'HTTPS_PROXY',
      'SSL_CERT_FILE',
    ]),
  })
  return binary
}

function inherited(names: readonly string[]): Record<string, string> {
  const found = names.flatMap((name) => {
    const value = process.env[name]
    if (value === undefined) return []
    // Where Go's own installer puts it, which few paths name.
    return [[name, name === 'PATH' ? `${value}${delimiter}/usr/local/go/bin` : value] as const]
  })
  return { ...Object.fromEntries(found), CGO_ENABLED: '0' }
}
