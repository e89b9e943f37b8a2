/** Nothing is skipped silently: what cannot be installed is named, with the command that would. */

import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { installPrograms } from './install.ts'
import { ProgramError, runProgram } from './process.ts'
import { tempFolder } from './temp.ts'

const SCRIPT = join(import.meta.dirname, '../../scripts/install-programs')

/** Runs the script as an ordinary user sees it, on a machine with nothing but these commands in its PATH. */
async function runAsUser(commands: readonly string[], programs: readonly string[]): Promise<unknown> {
  await using folder = await tempFolder('path')
  await folder.write('id', '#!/bin/bash\necho 1000\n', 0o755)
  for (const command of commands) await folder.write(command, '#!/bin/bash\nexit 99\n', 0o755)
  try {
    return await runProgram(SCRIPT, programs, { env: { PATH: folder.path } })
  } catch (error) {
    return error
  }
}

describe('install-programs', () => {
  it('is content when everything is there', async () => {
    await expect(installPrograms()).resolves.toBeUndefined()
  })

  it('fails with the missing programs and the command to run when it may not install', async () => {
    const error = await runAsUser(['apt-get', 'openssl'], ['skopeo', 'ctr', 'openssl'])

    expect(error).toBeInstanceOf(ProgramError)
    expect(error).toMatchObject({ exit: { code: 1 } })
    expect(String(error)).toContain('missing programs: skopeo ctr\n')
    expect(String(error)).toContain(
      'sudo apt-get update && sudo apt-get install --no-install-recommends skopeo containerd',
    )
  })

  it('says what to look for where there is no apt', async () => {
    const error = await runAsUser([], ['wrk'])

    expect(error).toMatchObject({ exit: { code: 1 } })
    expect(String(error)).toContain('missing programs: wrk')
  })

  it('refuses a program that it does not know, by name', async () => {
    await expect(installPrograms(['skopeoo'])).rejects.toThrow(/no package is known for 'skopeoo'/)
  })
})
