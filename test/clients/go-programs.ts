/** The programs that `modules` pins, each with a home of its own. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buildGoProgram } from '../support/go-program.ts'
import { runProgram } from '../support/process.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'

const MODULES = join(import.meta.dirname, 'modules')

/** A program with a home of its own, where its credentials lie. */
export interface GoProgram extends AsyncDisposable {
  readonly version: string
  readonly home: TempFolder
  run(args: readonly string[], input?: string): Promise<string>
}

/** `settings`: environment variables beside those of its home. */
export async function startGoProgram(
  name: string,
  settings: Readonly<Record<string, string>> = {},
): Promise<GoProgram> {
  const folder = join(MODULES, name)
  const goMod = await readFile(join(folder, 'go.mod'), 'utf8')
  const mainPackage = /^tool (\S+)$/m.exec(goMod)?.[1]
  if (mainPackage === undefined) throw new Error(`${folder}/go.mod names no tool`)
  const binary = await buildGoProgram(folder, mainPackage)
  const home = await tempFolder(name)
  const env = { HOME: home.path, DOCKER_CONFIG: home.path, TMPDIR: home.path, ...settings }
  return {
    version: pinned(goMod, mainPackage),
    home,
    async run(args, input = '') {
      return (await runProgram(binary, args, { env, cwd: home.path, input })).stdout
    },
    [Symbol.asyncDispose]: () => home[Symbol.asyncDispose](),
  }
}

/** The version of the module that the package is in. */
function pinned(goMod: string, mainPackage: string): string {
  const required = goMod.matchAll(/^(?:require)?\s*(\S+) v(\d\S*)/gm)
  for (const [, module = '', version = ''] of required) {
    if (mainPackage.startsWith(`${module}/`)) return version
  }
  throw new Error(`go.mod requires no module with ${mainPackage}`)
}
