static char help[] = "−Δu − k²u = f in the unit square, u = 0 on its boundary, for random k and f; it knows nothing of networks.\n\n\
  ./helmholtz -size 33 -solves 100 -seed 0 -file solutions.bin\n\
      writes the Vec of every solution to solutions.bin, their parameters to solutions.csv,\n\
      and the coordinates of the nodes to nodes.bin\n\
  ./helmholtz -size 65 -solves 10 -seed 1 -ksp_type fgmres -pc_type …\n\
      prints the median of the Krylov iterations\n\n";

#include <petscksp.h>
#include <petscdmda.h>

#define MODES 4 /* sines along each axis */

static PetscErrorCode Assemble(DM da, PetscReal k, Mat A)
{
  DMDALocalInfo info;
  PetscReal     h;

  PetscFunctionBeginUser;
  PetscCall(DMDAGetLocalInfo(da, &info));
  h = 1.0 / (info.mx - 1);
  PetscCall(MatZeroEntries(A));
  for (PetscInt j = info.ys; j < info.ys + info.ym; j++) {
    for (PetscInt i = info.xs; i < info.xs + info.xm; i++) {
      const PetscBool inside = (PetscBool)(0 < i && i < info.mx - 1 && 0 < j && j < info.my - 1);
      const PetscInt  a[4]   = {i - 1, i + 1, i, i}, b[4] = {j, j, j - 1, j + 1};
      MatStencil      row = {.i = i, .j = j}, columns[5];
      PetscScalar     values[5];
      PetscInt        count = 0;

      columns[count]  = row;
      values[count++] = inside ? 4.0 - k * k * h * h : 1.0;
      for (PetscInt n = 0; inside && n < 4; n++) {
        if (a[n] == 0 || a[n] == info.mx - 1 || b[n] == 0 || b[n] == info.my - 1) continue;
        columns[count]  = (MatStencil){.i = a[n], .j = b[n]};
        values[count++] = -1.0;
      }
      PetscCall(MatSetValuesStencil(A, 1, &row, count, columns, values, INSERT_VALUES));
    }
  }
  PetscCall(MatAssemblyBegin(A, MAT_FINAL_ASSEMBLY));
  PetscCall(MatAssemblyEnd(A, MAT_FINAL_ASSEMBLY));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Source(DM da, const PetscReal amplitudes[], Vec b)
{
  DMDALocalInfo info;
  PetscScalar **f;

  PetscFunctionBeginUser;
  PetscCall(DMDAGetLocalInfo(da, &info));
  PetscCall(DMDAVecGetArrayWrite(da, b, &f));
  for (PetscInt j = info.ys; j < info.ys + info.ym; j++) {
    for (PetscInt i = info.xs; i < info.xs + info.xm; i++) {
      const PetscReal h = 1.0 / (info.mx - 1), x = i * h, y = j * h;

      f[j][i] = 0.0;
      for (PetscInt n = 0; n < MODES * MODES; n++) f[j][i] += h * h * amplitudes[n] * PetscSinReal((n / MODES + 1) * PETSC_PI * x) * PetscSinReal((n % MODES + 1) * PETSC_PI * y);
    }
  }
  PetscCall(DMDAVecRestoreArrayWrite(da, b, &f));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  DM          da;
  Mat         A;
  Vec         b, x, nodes;
  KSP         ksp;
  PetscRandom random;
  PetscInt    size = 33, solves = 10, seed = 0, *counts;
  char        name[PETSC_MAX_PATH_LEN] = "";
  PetscBool   writes;
  PetscViewer vecs = NULL, text = NULL;

  PetscFunctionBeginUser;
  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCall(PetscOptionsGetInt(NULL, NULL, "-size", &size, NULL));
  PetscCall(PetscOptionsGetInt(NULL, NULL, "-solves", &solves, NULL));
  PetscCall(PetscOptionsGetInt(NULL, NULL, "-seed", &seed, NULL));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-file", name, sizeof(name) - 4, &writes));

  PetscCall(DMDACreate2d(PETSC_COMM_WORLD, DM_BOUNDARY_NONE, DM_BOUNDARY_NONE, DMDA_STENCIL_STAR, size, size, PETSC_DECIDE, PETSC_DECIDE, 1, 1, NULL, NULL, &da));
  PetscCall(DMSetUp(da));
  PetscCall(DMDASetUniformCoordinates(da, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0));
  PetscCall(DMCreateMatrix(da, &A));
  PetscCall(DMCreateGlobalVector(da, &b));
  PetscCall(VecDuplicate(b, &x));
  PetscCall(KSPCreate(PETSC_COMM_WORLD, &ksp));
  PetscCall(KSPSetOperators(ksp, A, A));
  PetscCall(KSPSetFromOptions(ksp));
  if (writes) {
    PetscCall(PetscViewerBinaryOpen(PETSC_COMM_WORLD, "nodes.bin", FILE_MODE_WRITE, &vecs));
    PetscCall(DMGetCoordinates(da, &nodes));
    PetscCall(VecView(nodes, vecs));
    PetscCall(PetscViewerDestroy(&vecs));
    PetscCall(PetscViewerBinaryOpen(PETSC_COMM_WORLD, name, FILE_MODE_WRITE, &vecs));
    for (size_t n = 0; name[n]; n++) {
      if (name[n] == '.') name[n] = 0;
    }
    PetscCall(PetscStrlcat(name, ".csv", sizeof(name)));
    PetscCall(PetscViewerASCIIOpen(PETSC_COMM_WORLD, name, &text));
    PetscCall(PetscViewerASCIIPrintf(text, "wave_number"));
    for (PetscInt n = 0; n < MODES * MODES; n++) PetscCall(PetscViewerASCIIPrintf(text, ",amplitude_%" PetscInt_FMT, n));
    PetscCall(PetscViewerASCIIPrintf(text, "\n"));
  }

  PetscCall(PetscRandomCreate(PETSC_COMM_SELF, &random));
  PetscCall(PetscRandomSetType(random, PETSCRAND48));
  PetscCall(PetscRandomSetSeed(random, (unsigned long)(seed + 1)));
  PetscCall(PetscRandomSeed(random));
  PetscCall(PetscMalloc1(solves, &counts));
  for (PetscInt s = 0; s < solves; s++) {
    PetscReal k, amplitudes[MODES * MODES];

    PetscCall(PetscRandomGetValueReal(random, &k));
    k = 14.0 + 4.0 * k;
    for (PetscInt n = 0; n < MODES * MODES; n++) {
      PetscCall(PetscRandomGetValueReal(random, &amplitudes[n]));
      amplitudes[n] = 2.0 * amplitudes[n] - 1.0;
    }
    PetscCall(Assemble(da, k, A));
    PetscCall(Source(da, amplitudes, b));
    PetscCall(KSPSolve(ksp, b, x));
    PetscCall(KSPGetIterationNumber(ksp, &counts[s]));
    if (writes) {
      PetscCall(VecView(x, vecs));
      PetscCall(PetscViewerASCIIPrintf(text, "%.17g", (double)k));
      for (PetscInt n = 0; n < MODES * MODES; n++) PetscCall(PetscViewerASCIIPrintf(text, ",%.17g", (double)amplitudes[n]));
      PetscCall(PetscViewerASCIIPrintf(text, "\n"));
    }
  }
  PetscCall(PetscSortInt(solves, counts));
  PetscCall(PetscPrintf(PETSC_COMM_WORLD, "median of %" PetscInt_FMT " solves: %" PetscInt_FMT " Krylov iterations\n", solves, counts[solves / 2]));
  PetscCall(PetscFree(counts));
  PetscCall(PetscViewerDestroy(&vecs));
  PetscCall(PetscViewerDestroy(&text));
  PetscCall(PetscRandomDestroy(&random));
  PetscCall(KSPDestroy(&ksp));
  PetscCall(VecDestroy(&x));
  PetscCall(VecDestroy(&b));
  PetscCall(MatDestroy(&A));
  PetscCall(DMDestroy(&da));
  PetscCall(PetscFinalize());
  return 0;
}
